{# The four data tests that every project has. A test selects the rows that are wrong; none is good. #}

{% test not_null(model, column_name) %}
select * from {{ model }} where {{ column_name }} is null
{% endtest %}

{% test unique(model, column_name) %}
select {{ column_name }} as unique_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null
group by {{ column_name }}
having count(*) > 1
{% endtest %}

{% test accepted_values(model, column_name, values, quote=true) %}
select {{ column_name }} as value_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null
  and {{ column_name }} not in (
    {%- for value in values %}{{ ", " if not loop.first }}{% if quote %}'{{ value | replace("'", "''") }}'{% else %}{{ value }}{% endif %}{% endfor -%}
  )
group by {{ column_name }}
{% endtest %}

{% test relationships(model, column_name, to, field) %}
select child.{{ column_name }} as from_field
from {{ model }} as child
left join {{ to }} as parent on child.{{ column_name }} = parent.{{ field }}
where child.{{ column_name }} is not null
  and parent.{{ field }} is null
{% endtest %}

{# One row for each combination of columns. #}
{% test unique_combination(model, columns) %}
select {{ columns | join(', ') }}, count(*) as n_records
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

{# The condition holds in every row; a condition that is unknown counts as broken. #}
{% test expression_is_true(model, expression, column_name=none) %}
select * from {{ model }} where not coalesce({{ (column_name ~ ' ' if column_name else '') ~ expression }}
, false)
{% endtest %}
