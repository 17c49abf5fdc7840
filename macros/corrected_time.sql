{# When an event really happened: a wrong clock of the sender shifts occurred_at and sent_at alike, so their distance is
   right and the receiver's clock is the anchor. #}
{% macro corrected_time() -%}
received_at - (sent_at - occurred_at)
{%- endmacro %}
