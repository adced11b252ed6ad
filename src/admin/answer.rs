//! What a call to the API gets: JSON, and for what cannot be done, why.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::oci::{InvalidDigest, InvalidImageName};
use crate::route::Unrouted;
use crate::store;

pub(super) type Answer = Result<Json<Value>, Trouble>;

/// Why a call is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0:?}: {1}")]
    Image(String, #[source] InvalidImageName),
    #[error("{0:?}: {1}")]
    Digest(String, #[source] InvalidDigest),
    #[error(transparent)]
    Unrouted(#[from] Unrouted),
    #[error("the body names neither images nor digests")]
    Nothing,
    #[error(transparent)]
    Query(#[from] QueryRejection),
    #[error(transparent)]
    Body(#[from] JsonRejection),
    #[error("{0} is not cached")]
    NotCached(String),
    #[error("{0}")]
    Refused(#[from] super::Refused),
    #[error("this call is not for you: {0}")]
    Forbidden(&'static str),
    #[error("this call needs the token of admin.token_file: Authorization: Bearer …")]
    NoToken,
    #[error("the body has to be JSON: Content-Type: application/json")]
    NotJson,
    #[error("the cache failed: {0}")]
    Store(#[from] store::Error),
    #[error("the work did not come to its end: {0}")]
    Broken(#[from] tokio::task::JoinError),
    #[error("there is no such call; they are listed in the documentation of the admin API")]
    Unknown,
    #[error("this call takes another method")]
    Method,
}

impl Trouble {
    fn status(&self) -> StatusCode {
        match self {
            Trouble::Image(..)
            | Trouble::Digest(..)
            | Trouble::Unrouted(_)
            | Trouble::Nothing
            | Trouble::Query(_) => StatusCode::BAD_REQUEST,
            Trouble::Body(rejection) => rejection.status(),
            Trouble::NotCached(_) | Trouble::Unknown => StatusCode::NOT_FOUND,
            Trouble::Refused(_) => StatusCode::CONFLICT,
            Trouble::Forbidden(_) => StatusCode::FORBIDDEN,
            Trouble::NoToken => StatusCode::UNAUTHORIZED,
            Trouble::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Trouble::Method => StatusCode::METHOD_NOT_ALLOWED,
            Trouble::Store(_) | Trouble::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": { "message": self.to_string() } }));
        let mut response = (self.status(), body).into_response();
        if matches!(self, Trouble::NoToken) {
            let bearer = HeaderValue::from_static("Bearer realm=\"weir admin\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

pub(super) async fn unknown() -> Trouble {
    Trouble::Unknown
}

pub(super) async fn wrong_method() -> Trouble {
    Trouble::Method
}
