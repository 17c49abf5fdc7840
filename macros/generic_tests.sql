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

{# In quotes `true` is a text in both of its spellings, so that it is found in a column of booleans, too. #}
{% test accepted_values(model, column_name, values, quote=true) %}
{%- set booleans = values | select('boolean') | list if quote else [] %}
{%- set compared = 'cast(' ~ column_name ~ ' as varchar)' if booleans else column_name %}
select {{ column_name }} as value_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null
  and {{ compared }} not in (
    {%- for value in values %}{{ ", " if not loop.first }}{% if not quote %}{{ value }}{% elif value is boolean %}'{{ value }}', '{{ value | lower }}'{% else %}'{{ value | replace("'", "''") }}'{% endif %}{% endfor -%}
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
