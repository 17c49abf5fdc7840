select user_id as visitor, viewed_at as visited_at, load_ms from {{ ref('fct_page_views') }}
