"""The usual way: one DuckDB query per experiment (or per few) over the same clustered Parquet files.

python peer.py FOLDER PLAN.json EXPERIMENTS_PER_QUERY 3,20,60,120,180
"""
import json
import resource
import sys
import time

import duckdb

folder, plan_file, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
picks = [int(x) for x in sys.argv[4].split(',')]
plan = json.loads(open(plan_file).read())
c=duckdb.connect(); c.execute("set threads=2")
ev=f"'{folder}/clustered/events/*.parquet'"; asg=f"'{folder}/clustered/assignments/*.parquet'"
def cpu():
    r=resource.getrusage(resource.RUSAGE_SELF); return r.ru_utime+r.ru_stime
cols=[]; aggs=[]
for i,m in enumerate(plan['metrics']):
    for p,lo,hi in (('y',0,m['window_length']),('x',-m['lookback'],0)):
        when=f"name='{m['value']['event']}' and tm>=t+to_seconds({lo}) and tm<t+to_seconds({hi})"
        a=m['value']['aggregate']
        if a=='sum': e=f"coalesce(sum(value) filter (where {when}),0)"
        elif a=='any': e=f"(count(*) filter (where {when})>0)::double"
        else: e=f"(count(*) filter (where {when}))::double"
        cols.append(f"{e} as {p}{i}")
    aggs.append(f"sum(y{i}),sum(x{i}),sum(y{i}*y{i}),sum(x{i}*y{i}),sum(x{i}*x{i})")
res=[]
for k in range(0,len(picks),batch):
    keys=",".join("'"+plan['experiments'][i]['key']+"'" for i in picks[k:k+batch])
    sql=f"""with f as (select experiment_key e, unit_key u, min(occurred_at) t, arg_min(variant,occurred_at) v from read_parquet({asg}) where experiment_key in ({keys}) group by 1,2 having count(distinct variant)=1),
    j as (select f.e,f.u,f.v,f.t,event_name as name, ev.occurred_at as tm, value from f left join read_parquet({ev}) ev on ev.unit_key=f.u),
    p as (select e,u,v,{','.join(cols)} from j group by e,u,v,t)
    select e,v,count(*),{','.join(aggs)} from p group by 1,2"""
    w=time.time();u=cpu(); r=c.execute(sql).fetchall(); res.append((time.time()-w,cpu()-u)); print(keys,[x[2] for x in r],"wall %.2f cpu %.2f"%res[-1],flush=True)
print("mean wall %.2f cpu %.2f"%(sum(r[0] for r in res)/len(res),sum(r[1] for r in res)/len(res)))
