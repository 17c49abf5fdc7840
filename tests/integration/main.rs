mod events_accept;
mod events_log;
mod events_rotate;
mod generate_shop;
mod operator_facts;
mod operator_states;
mod sources;
mod warehouse;
