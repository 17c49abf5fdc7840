mod events_accept;
mod events_log;
mod events_rotate;
