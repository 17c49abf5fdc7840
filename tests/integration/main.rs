
mod events_log;
