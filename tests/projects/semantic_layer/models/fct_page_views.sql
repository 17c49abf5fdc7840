select view_id, user_id, load_ms, cast(viewed_at as timestamp) as viewed_at from {{ ref('raw_page_views') }}
