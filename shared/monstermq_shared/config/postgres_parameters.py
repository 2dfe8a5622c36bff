"""The parameters of a PostgreSQL URL: those that count, and those that mean nothing here."""

import difflib

# Spelled as the JDBC driver or libpq do; canonical() finds them in either's spelling.
PARAMETERS = {
    "ApplicationName",
    "connectTimeout",
    "currentSchema",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "socketTimeout",
    "ssl",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslpassword",
    "sslrootcert",
    "target_session_attrs",
    "targetServerType",
    "user",
}

# These tune the JDBC driver's or libpq's own machinery. None of them makes a connection safer, so
# to leave it out changes no promise.
IGNORED = {
    "adaptiveFetch",
    "adaptiveFetchMaximum",
    "adaptiveFetchMinimum",
    "allowEncodingChanges",
    "assumeMinServerVersion",
    "autosave",
    "binaryTransfer",
    "binaryTransferDisable",
    "binaryTransferEnable",
    "cancelSignalTimeout",
    "cleanupSavepoints",
    "client_encoding",
    "databaseMetadataCacheFields",
    "databaseMetadataCacheFieldsMiB",
    "defaultRowFetchSize",
    "disableColumnSanitiser",
    "escapeSyntaxCallMode",
    "fallback_application_name",
    "hostRecheckSeconds",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "loadBalanceHosts",
    "loggerFile",
    "loggerLevel",
    "loginTimeout",
    "logServerErrorDetail",
    "logUnclosedConnections",
    "maxResultBuffer",
    "maxSendBufferSize",
    "preferQueryMode",
    "preparedStatementCacheQueries",
    "preparedStatementCacheSizeMiB",
    "prepareThreshold",
    "queryTimeout",
    "quoteReturningIdentifiers",
    "receiveBufferSize",
    "reWriteBatchedInserts",
    "sendBufferSize",
    "sslResponseTimeout",
    "stringtype",
    "tcp_user_timeout",
    "tcpKeepAlive",
    "tcpNoDelay",
    "unknownLength",
}

_KNOWN = {name.casefold().replace("_", ""): name for name in sorted(IGNORED | PARAMETERS)}


def canonical(written: str) -> str:
    """Return our spelling: ``connect_timeout`` is connectTimeout; what is unknown, as it is."""
    return _KNOWN.get(written.casefold().replace("_", ""), written)


def suggested(written: str) -> str | None:
    """Return the parameter that was probably meant."""
    folded = {name.casefold(): name for name in PARAMETERS}
    near = difflib.get_close_matches(written.casefold(), folded, n=1, cutoff=0.75)
    return folded[near[0]] if near else None
