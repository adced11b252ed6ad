//! What the hosts of a registry want to see, as they last said it.
//!
//! A challenge that is remembered saves the round trip of a 401 on every request. It is remembered
//! for the host that gave it: an endpoint, or a host that a redirect led to.

use std::time::Duration;

use super::challenge::Challenge;

/// Hosts that challenge, and repositories whose scope is not the usual one.
const REMEMBERED_MAX: u64 = 1024;

/// A host without a challenge may get one.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// The challenges of one registry's hosts.
#[derive(Debug)]
pub(super) struct Ways {
    by_origin: moka::sync::Cache<String, Challenge>,
    odd_scopes: moka::sync::Cache<(String, String), String>,
    /// Hosts that were asked for their challenge.
    asked: moka::sync::Cache<String, ()>,
}

impl Ways {
    pub(super) fn new() -> Self {
        Ways {
            by_origin: moka::sync::Cache::new(REMEMBERED_MAX),
            odd_scopes: moka::sync::Cache::new(REMEMBERED_MAX),
            asked: moka::sync::Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(ASKED_AGAIN_AFTER)
                .build(),
        }
    }

    /// What the host will probably want for a repository; `None`: it never challenged.
    pub(super) fn expected(&self, origin: &str, repository: &str) -> Option<Challenge> {
        match self.by_origin.get(origin)? {
            Challenge::Basic => Some(Challenge::Basic),
            Challenge::Bearer { realm, service, .. } => {
                let key = (origin.to_owned(), repository.to_owned());
                let odd = self.odd_scopes.get(&key);
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope: Some(odd.unwrap_or_else(|| usual_scope(repository))),
                })
            }
        }
    }

    /// Whether this host is to be asked for its challenge; not again for a while after that, and
    /// not where it is known.
    pub(super) fn ask_once(&self, origin: &str) -> bool {
        let is_known = self.by_origin.contains_key(origin) || self.asked.contains_key(origin);
        self.asked.insert(origin.to_owned(), ());
        !is_known
    }

    /// Takes in a challenge, and gives it back with the scope that is to be asked for: the one it
    /// names, whatever we would have asked for, or the usual one.
    pub(super) fn learn(&self, origin: &str, repository: &str, challenge: Challenge) -> Challenge {
        let usual = usual_scope(repository);
        let challenge = match challenge {
            Challenge::Basic => Challenge::Basic,
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let scope = scope.unwrap_or_else(|| usual.clone());
                let key = (origin.to_owned(), repository.to_owned());
                if scope == usual {
                    self.odd_scopes.invalidate(&key);
                } else {
                    self.odd_scopes.insert(key, scope.clone());
                }
                Challenge::Bearer {
                    realm,
                    service,
                    scope: Some(scope),
                }
            }
        };
        self.by_origin.insert(origin.to_owned(), challenge.clone());
        challenge
    }
}

fn usual_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: "https://r.example/token".parse().unwrap(),
            service: None,
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn the_challenge_for_one_repository_tells_what_another_needs() {
        let ways = Ways::new();
        assert_eq!(ways.expected("https://r.example", "a"), None);
        ways.learn("https://r.example", "a", bearer(Some("repository:a:pull")));
        let expected = Some(bearer(Some("repository:b:pull")));
        assert_eq!(ways.expected("https://r.example", "b"), expected);
        assert_eq!(ways.expected("https://other.example", "b"), None);
    }

    #[test]
    fn a_registrys_own_scope_is_kept_for_its_repository() {
        let ways = Ways::new();
        let learned = ways.learn("https://r.example", "a", bearer(Some("odd:a")));
        assert_eq!(learned, bearer(Some("odd:a")));
        assert_eq!(
            ways.expected("https://r.example", "a"),
            Some(bearer(Some("odd:a")))
        );
        let usual = Some(bearer(Some("repository:b:pull")));
        assert_eq!(ways.expected("https://r.example", "b"), usual);
        let without = ways.learn("https://r.example", "a", bearer(None));
        assert_eq!(without, bearer(Some("repository:a:pull")));
    }
}
