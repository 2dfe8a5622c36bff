import sys,os
from dataclasses import replace
from tests.bench.model import SMALL,LARGE
from tests.bench import scenarios_projector as s
n=int(sys.argv[1]); only=sys.argv[2] if len(sys.argv)>2 else ""
for c in s.SCENARIOS:
    if only in c.name:
        o=c.run(replace(SMALL,stored_rows=n)); print(c.name,{k:round(v,1) for k,v in o.figures.items()},o.problems,"load",os.getloadavg()[0])
