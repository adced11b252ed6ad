//! What this room does, against small servers on loopback that say what they saw.

mod auth;
mod credentials;
mod downloads;
mod endpoints;
mod faults;
mod limits;
mod redirects;
mod registries;
mod secrets;
mod server;
mod world;
