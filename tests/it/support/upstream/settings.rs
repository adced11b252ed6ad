//! How a fake registry behaves when nothing is wrong with it. The default is Docker Hub's way.

/// What a registry wants to see before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    Open,
    Basic,
    Bearer,
}

/// A way in which a registry differs from the default.
pub type Habit = fn(&mut Settings);

#[derive(Debug, Clone)]
pub struct Settings {
    pub auth: Auth,
    /// Who may log in: user and password. A password is also a refresh token.
    pub accounts: Vec<(String, String)>,
    /// Repositories that only accounts may pull.
    pub private: Vec<String>,
    /// Repositories that only one account may pull, each with it; may be there several times.
    pub members: Vec<(String, String)>,
    /// What somebody may not see is not there, rather than denied.
    pub hides: bool,
    /// Stands before every repository.
    pub prefix: String,
    /// Blobs are answered by a redirect to the CDN.
    pub redirect: bool,
    /// Manifests too, as registry.k8s.io does it.
    pub redirect_manifests: bool,
    /// `Location` is a path rather than an address, and so stays at the registry.
    pub relative_location: bool,
    /// Whether parts of blobs can be had.
    pub ranges: bool,
    /// Whether the CDN says how long a blob is.
    pub lengths: bool,
    /// A cache that has not got a blob yet says 404 to a HEAD of it.
    pub blob_head_is_404: bool,
    /// `Docker-Content-Digest` on HEAD of a manifest.
    pub digest_on_head: bool,
    /// Answers carry headers of 60 KiB.
    pub fat_headers: bool,
    /// Manifest GETs that an account, or an address, has; `None`: no limit, and no headers.
    pub quota: Option<u64>,
    pub referrers: bool,
    /// Tags on one page where the client names no number.
    pub tags_page: usize,
    pub token: Token,
}

/// The token service.
#[derive(Debug, Clone)]
pub struct Token {
    /// Seconds; also what the registry holds the token to.
    pub expires_in: Option<u64>,
    pub issued_at: Option<String>,
    /// `token`, `access_token`.
    pub fields: Vec<&'static str>,
    /// A token is good for the repository it was asked for only.
    pub bound_to_scope: bool,
    /// The OAuth2 POST is understood.
    pub post: bool,
    /// The status for somebody without credentials, where they get no token at all.
    pub refuse_anonymous: Option<u16>,
    /// The realm of the challenge, where it is not this upstream's own token service.
    pub realm: Option<String>,
    /// The scope of the challenge, where it is not the repository that was asked for.
    pub scope: Option<String>,
}

impl Settings {
    pub(super) fn lets_in(&self, account: Option<&str>, repository: &str) -> bool {
        let mut members = self.members.iter().filter(|(of, _)| of == repository);
        let is_public = !self.private.iter().any(|private| private == repository);
        match account {
            None => is_public && members.next().is_none(),
            Some(account) => {
                members.clone().next().is_none() || members.any(|(_, member)| member == account)
            }
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            auth: Auth::Bearer,
            accounts: Vec::new(),
            private: Vec::new(),
            members: Vec::new(),
            hides: false,
            prefix: String::new(),
            redirect: true,
            redirect_manifests: false,
            relative_location: false,
            ranges: true,
            lengths: true,
            blob_head_is_404: false,
            digest_on_head: true,
            fat_headers: false,
            quota: None,
            referrers: true,
            tags_page: 100,
            token: Token::default(),
        }
    }
}

impl Default for Token {
    fn default() -> Self {
        Token {
            expires_in: Some(300),
            issued_at: None,
            fields: vec!["token", "access_token"],
            bound_to_scope: true,
            post: true,
            refuse_anonymous: None,
            realm: None,
            scope: None,
        }
    }
}
