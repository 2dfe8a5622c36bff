"""What this release can run of all that a configuration may ask for."""

from monstermq_shared.config.checks import stores_of
from monstermq_shared.config.fields import StoreType
from monstermq_shared.config.loading import LoadedConfig
from monstermq_shared.config.sections import BrokerConfig
from monstermq_shared.config.validation import refuse

_RUNNABLE_STORES = {
    StoreType.NONE,
    StoreType.MEMORY,
    StoreType.SQLITE,
    StoreType.POSTGRES,
    StoreType.KAFKA,
}


def unsupported(loaded: LoadedConfig) -> list[str]:
    """Return what the configuration asks for and this release does not do, one sentence each."""
    return [*_blocking(loaded), *_dispensable(loaded.config)]


def check_runnable(loaded: LoadedConfig) -> list[str]:
    """Refuse what this release cannot run; return warnings for what it starts without.

    Raises:
        ConfigError: A store, the bus or the cluster is not available, or a TLS port has no
            certificate; one line for each, with the key and the fix.
    """
    refuse([*_blocking(loaded), *_missing_certificate(loaded.config)])
    return _dispensable(loaded.config)


def _blocking(loaded: LoadedConfig) -> list[str]:
    """Return what cannot be left out when the broker starts."""
    problems = [
        f"{key}: {store} is not available in this release; use POSTGRES or SQLITE"
        + (", or MEMORY" if key.endswith(("RetainedStoreType", "LastValType")) else "")
        for key, store in stores_of(loaded.config)
        if store not in _RUNNABLE_STORES
    ]
    if loaded.cluster:
        problems.append("-cluster is not available in this release; start a single broker")
    return problems


def _missing_certificate(config: BrokerConfig) -> list[str]:
    ports = [name for name, port in (("TCPS", config.tcps), ("WSS", config.wss)) if port]
    if not ports or config.tls.cert_file or config.tls.key_store:
        return []
    return [
        f"{' and '.join(ports)}: a TLS port needs a certificate; set TLS.CertFile and "
        "TLS.KeyFile (PEM), or TLS.KeyStore and TLS.KeyStorePassword (PKCS#12); a JKS "
        "keystore of the original becomes one with: keytool -importkeystore "
        "-srckeystore server-keystore.jks -destkeystore server-keystore.p12 "
        "-deststoretype PKCS12; or set the port to 0"
    ]


def _dispensable(config: BrokerConfig) -> list[str]:
    """Return what the broker starts without."""
    missing = []
    if config.sparkplug_metric_expansion.enabled:
        missing.append(
            "SparkplugMetricExpansion.Enabled: the expansion is not available in this release"
        )
    return missing
