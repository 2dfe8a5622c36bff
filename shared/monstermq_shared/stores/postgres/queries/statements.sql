-- rows --
-- What somebody's statement returns, up to a number of rows ($1) and, whatever they hold, of bytes
-- ($2): values are cut where they are, so that nothing large leaves the server. The window keeps the
-- rows in the order in which they come.
SELECT {shown}, found FROM (
    SELECT *, count(*) OVER () AS found, sum(own) OVER (ROWS UNBOUNDED PRECEDING) - own AS before
    FROM (
        SELECT *, {own} AS own FROM (
            SELECT {cells} FROM (
{statement}
            ) AS asked ({columns}) LIMIT $1
        ) AS cut
    ) AS sized
) AS counted
WHERE before < $2;

-- plain --
-- A value of bounded size.
{column} AS {value}, NULL::integer AS {size}

-- text --
-- Others as text: its beginning, and its length where it is longer.
left({column}::text, {cell_size_max}) AS {value},
CASE WHEN octet_length({column}::text) > {cell_size_max} AND length({column}::text) > {cell_size_max}
    THEN length({column}::text) END AS {size}

-- bytes --
substr({column}, 1, {cell_size_max}) AS {value},
CASE WHEN octet_length({column}) > {cell_size_max} THEN octet_length({column}) END AS {size}

-- session --
-- What the role may undo as it likes: nobody uses the session after it.
SET default_transaction_read_only = on;
SET max_parallel_workers_per_gather = 0;
