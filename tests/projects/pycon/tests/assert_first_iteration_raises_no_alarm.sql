-- 1,107 against 1,027 rows is p = 0.083: a split that looks uneven and is not.
select *
from {{ ref('sample_ratio_checks') }}
where experiment_key = 'payment_page_first' and verdict <> 'ok'
