//! Which token service may be asked, and which may see a credential.
//!
//! A registry names its token service itself, so a registry that turned bad could have credentials
//! sent anywhere. They go only to the registrable domain of the endpoint that challenged (for
//! addresses: the same address), over https, or to loopback, or to what the config lists
//! (SPEC 4.4, promise 7).

use http::Uri;

use super::address;

/// Where an endpoint's challenge sends us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Realm<'a> {
    /// Of the endpoint, or of the host of a redirect, that challenged.
    pub(super) challenger: &'a Uri,
    pub(super) uri: &'a Uri,
    /// `token_services` of the registry.
    pub(super) listed: &'a [Uri],
}

impl Realm<'_> {
    /// Whether it may be asked at all, if only without a credential.
    pub(super) fn check_anonymous(&self) -> Result<(), &'static str> {
        let Some(host) = self.uri.host() else {
            return Err("it is no URL");
        };
        if address::is_forbidden_host(host) {
            return Err("it is at a link-local address or a metadata service");
        }
        match self.uri.scheme_str() {
            Some("https") => Ok(()),
            // Nothing is given away, and a registry on plain http has nothing to lose.
            Some("http") if self.challenger.scheme_str() == Some("http") => Ok(()),
            Some("http") if self.is_plain_allowed(host) => Ok(()),
            Some("http") => Err("it is on plain http, its registry on https"),
            Some(_) | None => Err("it is neither http nor https"),
        }
    }

    /// Whether it may see the registry's credential.
    pub(super) fn check_credential(&self) -> Result<(), &'static str> {
        self.check_anonymous()?;
        if self.is_listed() || self.is_challenger() {
            return Ok(());
        }
        let host = self.uri.host().unwrap_or_default();
        if self.uri.scheme_str() != Some("https") && !address::is_loopback(host) {
            return Err("it is on plain http");
        }
        let challenger = self.challenger.host().unwrap_or_default();
        if belongs(host, challenger) {
            Ok(())
        } else {
            Err("it is not on the registry's own domain")
        }
    }

    fn is_plain_allowed(&self, host: &str) -> bool {
        address::is_loopback(host) || self.is_listed()
    }

    /// The very place that the config says to talk to, whatever its scheme.
    fn is_challenger(&self) -> bool {
        address::origin(self.uri) == address::origin(self.challenger)
    }

    fn is_listed(&self) -> bool {
        let origin = address::origin(self.uri);
        self.listed
            .iter()
            .any(|listed| address::origin(listed) == origin)
    }
}

/// Whether two hosts are of one owner: one registrable domain, or one address.
pub(super) fn belongs(host: &str, to: &str) -> bool {
    let normal = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    let (host, to) = (normal(host), normal(to));
    if host.is_empty() {
        return false;
    }
    if host == to {
        return true;
    }
    match (address::of_host(&host), address::of_host(&to)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => match (registrable(&host), registrable(&to)) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => false,
        },
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The part of a name that somebody registered, by the public suffix list. A name under a suffix
/// that is on no list (`.internal`, `.lan`) has none: nobody can say where its owners meet.
fn registrable(host: &str) -> Option<&str> {
    let domain = psl::domain(host.as_bytes())?;
    if !domain.suffix().is_known() {
        return None;
    }
    std::str::from_utf8(domain.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(challenger: &str, realm: &str, listed: &[&str]) -> (bool, bool) {
        let challenger: Uri = challenger.parse().unwrap();
        let uri: Uri = realm.parse().unwrap();
        let listed: Vec<Uri> = listed.iter().map(|uri| uri.parse().unwrap()).collect();
        let realm = Realm {
            challenger: &challenger,
            uri: &uri,
            listed: &listed,
        };
        (
            realm.check_anonymous().is_ok(),
            realm.check_credential().is_ok(),
        )
    }

    #[test]
    fn real_registries_get_their_credentials_through() {
        for (registry, realm) in [
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
            ),
            ("https://ghcr.io", "https://ghcr.io/token"),
            ("https://quay.io", "https://quay.io/v2/auth"),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
            ("https://nvcr.io", "https://nvcr.io/proxy_auth"),
            ("https://r.example.co.uk", "https://auth.example.co.uk/"),
            ("https://10.0.0.1:5000", "https://10.0.0.1:5001/auth"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/auth"),
            ("http://localhost:5000", "http://127.0.0.1:5001/auth"),
            (
                "https://acme.azurecr.io",
                "https://acme.azurecr.io/oauth2/token",
            ),
            ("http://registry.lan:5000", "http://registry.lan:5000/auth"),
            ("https://registry.lan", "https://registry.lan:5001/auth"),
        ] {
            assert_eq!(
                check(registry, realm, &[]),
                (true, true),
                "{registry} {realm}"
            );
        }
    }

    #[test]
    fn a_foreign_realm_is_asked_only_without_credentials() {
        for (registry, realm) in [
            ("https://registry-1.docker.io", "https://evil.example/token"),
            (
                "https://registry-1.docker.io",
                "https://docker.io.evil.example/token",
            ),
            ("https://registry-1.docker.io", "https://xdocker.io/token"),
            ("https://a.co.uk", "https://b.co.uk/"),
            ("https://one.github.io", "https://two.github.io/"),
            ("https://10.0.0.1", "https://10.0.0.2/"),
            ("http://127.0.0.1:5000", "http://127.0.0.2:5000/"),
            ("http://127.0.0.1:5000", "http://evil.localhost:5000/"),
            ("https://10.0.0.1", "https://10.0.0.1.evil.example/"),
            ("http://registry.lan:5000", "http://registry.lan:5001/auth"),
            ("https://a.lan", "https://b.lan/"),
        ] {
            assert_eq!(
                check(registry, realm, &[]),
                (true, false),
                "{registry} {realm}"
            );
        }
    }

    #[test]
    fn some_realms_are_never_asked() {
        for (registry, realm) in [
            ("https://r.example.com", "http://auth.example.com/"),
            ("https://r.example.com", "https://169.254.169.254/latest/"),
            ("http://127.0.0.1:5000", "http://169.254.169.254/latest/"),
            ("http://127.0.0.1:5000", "http://[fe80::1]/"),
            ("https://r.example.com", "ftp://r.example.com/"),
            ("https://r.example.com", "/token"),
        ] {
            assert_eq!(
                check(registry, realm, &[]),
                (false, false),
                "{registry} {realm}"
            );
        }
    }

    #[test]
    fn the_config_can_list_a_realm() {
        let listed = ["https://auth.example.org", "http://auth.lan:8080"];
        for (registry, realm) in [
            ("https://r.example.com", "https://auth.example.org/token"),
            ("https://r.example.com", "http://auth.lan:8080/token"),
        ] {
            assert_eq!(check(registry, realm, &listed), (true, true), "{realm}");
        }
        let downgraded = "http://auth.example.org/token";
        assert_eq!(
            check("https://r.example.com", downgraded, &listed),
            (false, false)
        );
        let forbidden = ["http://169.254.169.254"];
        assert_eq!(
            check(
                "https://r.example.com",
                "http://169.254.169.254/",
                &forbidden
            ),
            (false, false)
        );
    }
}
