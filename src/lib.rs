//! weir: a pull-through caching proxy for container registries.
//!
//! # The house
//!
//! The folders are the stages of a pull, in the order a request meets them:
//!
//! | room | what happens there | what must not be there |
//! |---|---|---|
//! | [`app`] | everything is put together, runs, is drained | decisions about a pull |
//! | [`server`] | listeners, the corridor, responses, sending bytes | knowledge of upstreams or files |
//! | [`access`] | who may come in, and what they may have | HTTP answers |
//! | [`route`] | host, prefix, `ns`, default → target | dialling, files, the clock |
//! | [`pull`] | hit, stale or miss; freshness, flights, filling | HTTP, paths, sockets |
//! | [`store`] | bytes by digest, and the index of facts about them | requests, upstreams |
//! | [`upstream`] | endpoints, attempts, tokens, credentials, quota | the cache |
//! | [`upkeep`] | evict, scrub, sweep | anything a client waits for |
//! | [`admin`] | metrics, health, JSON API, status page | anything a pull needs |
//! | [`cli`] | one file per command | anything but reading, asking and printing |
//!
//! Those who run weir, rather than change it, begin with the [`guide`].
//!
//! Beneath the rooms lie [`oci`] (the language of the specification, pure), [`config`] (what the
//! operator said, checked), [`metrics`], [`logging`] and [`clock`]. `fuzzing` says what must hold of
//! everything that reads other people's bytes.
//!
//! # The walk of a request
//!
//! `http::Request` → access: `Client` → [`oci::Request`] → route: [`oci::Target`] → access:
//! permitted → pull: `Content` → server: `http::Response`. `server/corridor.rs` is that line as one
//! function.
//!
//! # The arrows
//!
//! A room imports only from lines below its own, and rooms of one line never import each other
//! (`tests/it/architecture.rs` reads this table):
//!
//! ```text
//! 7: main
//! 6: cli fuzzing
//! 5: app
//! 4: server upkeep admin
//! 3: pull
//! 2: access route store upstream
//! 1: config
//! 0: oci metrics logging clock guide
//! ```
//!
//! # What holds everywhere
//!
//! - Only `pull` brings `store` and `upstream` together; `admin` shows both.
//! - Only `upstream` opens connections to the outside.
//! - Only `server` and `admin` know HTTP answers; `server/respond.rs` maps every error, exhaustively.
//! - A path under a digest means verified content: bytes are checked, then published by a rename.
//! - A digest, name or tag exists only through its parser in `oci`; nobody checks it again.
//! - Time and chance are handed in: [`clock::Clock`], tokio's time, a seed.
//! - Every task has an owner that waits for it.
//! - There is no `unsafe`, but for `server/mapping.rs`.

pub mod access;
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
pub mod logging;
pub mod metrics;
pub mod oci;
pub mod pull;
pub mod route;
pub mod server;
pub mod store;
pub mod upkeep;
pub mod upstream;
