select
    session_id,
    user_id,
    cart_size_eur,
    num_items,
    expanded_payment_methods as is_list_expanded,
    true as is_before_experiment,
    payment_page_accessed_at as visited_at
from {{ source('shop', 'pre_payment_page_visits') }}

union all

select
    session_id,
    user_id,
    cart_size_eur,
    num_items,
    expanded_payment_methods as is_list_expanded,
    false as is_before_experiment,
    payment_page_accessed_at as visited_at
from {{ source('shop', 'post_payment_page_visits') }}
