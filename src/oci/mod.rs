//! The language of the specification: digests, names, references, requests, manifests, errors.
//!
//! Everything here is pure: no IO, no clock, no configuration. A value of one of these types has
//! been through its parser, so no other room checks it again; each can be put into a path, a URL or
//! a log line as it is.
//!
//! Source: OCI Distribution Specification 1.1, OCI Image Specification 1.1.

mod digest;
mod error;
mod image;
mod manifest;
mod name;
mod registry;
mod request;
mod target;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{ErrorBody, ErrorCode};
pub use image::{ImageName, InvalidImageName};
pub use manifest::{
    Children, Descriptor, InvalidManifest, MANIFEST_BYTES_MAX, Manifest, MediaType, Platform,
};
pub use name::{InvalidName, Name, Reference, Repository, Tag};
pub use registry::{InvalidRegistry, RegistryName};
pub use request::{InvalidRequest, Request};
pub use target::Target;
