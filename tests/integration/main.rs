//! Tests against the real things: MariaDB, the API server, a node with Postfix. `make test` gives each what it needs;
//! a test whose tier is not there fails and says which.
#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

mod admins;
mod api_server;
mod bed;
mod cluster;
mod files;
mod kept;
mod load;
mod mail;
mod mariadb;
mod matrix;
mod node;
mod operator;
mod operator_faults;
mod plugin;
mod pod;
mod policies;
mod postfixadmin;
mod proxy;
mod queries;
mod replicas;
mod schema;
mod settings;
mod shards;
mod smtp;
mod stateful;
mod store;
mod store_admins;
mod store_faults;
mod store_lookups;
mod store_owners;
mod tls_database;
