mod events_accept;
mod events_log;
