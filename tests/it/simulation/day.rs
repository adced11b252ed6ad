//! A day: weather, guests in two waves, perhaps a restart between them, and what has to be true in
//! the evening.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;

use super::guest::{Got, Guest, Visit};
use super::{Life, SMALL_CACHE_BYTES};
use crate::support::{Fault, Gate, On, blob_path, disk, eventually, eventually_async};

/// What the upstream is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Calm,
    /// Transfers of blobs break in the middle, in order.
    Cuts,
    /// And by resets, so that bytes on their way are lost.
    Resets,
    /// Content is wrong, too short, too long, or a sign-in page.
    Lies,
    /// Nobody is there.
    Away,
    /// It answers, but nothing of use.
    Refuses,
}

impl Weather {
    /// Every guest gets what he came for.
    fn is_fair(self) -> bool {
        match self {
            Weather::Calm | Weather::Cuts | Weather::Resets => true,
            Weather::Lies | Weather::Away | Weather::Refuses => false,
        }
    }
}

/// What there was in the morning.
struct Morning {
    stored: BTreeSet<String>,
    staged: Vec<String>,
    evictions: f64,
    uncached: f64,
}

/// What a guest came for and left with.
type Left = (Visit, Got);

const LATEST: usize = 300;

impl Life {
    pub(super) async fn day(&mut self) {
        let weather = self.weather();
        let morning = self.morning().await;
        self.break_out(weather).await;
        let mut left = self.wave(weather).await;
        let restarts = self.random.u8(..4) == 0;
        if restarts && weather == Weather::Calm {
            self.restart_amid_a_transfer().await;
        } else if restarts {
            self.restart().await;
        }
        left.extend(self.wave(weather).await);
        self.upstream.heal();
        if weather == Weather::Away {
            self.upstream.come_back().await;
        }
        self.settle().await;
        self.check(weather, restarts, &morning, &left).await;
        self.learn(weather, &left);
        // Breakers close, and no tag is fresh any more.
        self.time.pass(Duration::from_secs(120)).await;
    }

    fn weather(&mut self) -> Weather {
        match self.random.u8(..10) {
            0..4 => Weather::Calm,
            4 | 5 => Weather::Cuts,
            6 => Weather::Resets,
            7 => Weather::Lies,
            8 => Weather::Away,
            _ => Weather::Refuses,
        }
    }

    async fn morning(&self) -> Morning {
        self.upstream.forget();
        let scrape = self.weir().metrics().await;
        Morning {
            stored: self.weir().stored().into_iter().collect(),
            staged: self.staged(),
            evictions: scrape.value("weir_cache_evictions_total", &[]),
            uncached: scrape.value("weir_uncached_transfers_total", &[]),
        }
    }

    fn staged(&self) -> Vec<String> {
        disk::names(&self.weir().cache_directory().join("staging"))
    }

    async fn break_out(&mut self, weather: Weather) {
        let upstream = &self.upstream;
        for _ in 0..self.random.usize(1..=4) {
            let place = self.random.usize(1..60_000);
            match weather {
                Weather::Calm => {}
                Weather::Cuts => upstream.fault(On::Blob, Fault::CutAfter(place)),
                Weather::Resets => upstream.fault(On::Blob, Fault::ResetAfter(place)),
                Weather::Lies => {
                    let lies = [
                        (On::Blob, Fault::CorruptAt(0)),
                        (On::Blob, Fault::TooShort(1)),
                        (On::Blob, Fault::TooLong(5)),
                        (On::Blob, Fault::ClaimsMore(5)),
                        (On::Blob, Fault::Html),
                        (On::Manifest, Fault::CorruptAt(30)),
                        (On::Manifest, Fault::Html),
                    ];
                    let (on, fault) = lies[self.random.usize(..lies.len())].clone();
                    upstream.fault(on, fault);
                }
                Weather::Away => upstream.go_away().await,
                Weather::Refuses => {
                    let refusals = [
                        Fault::Status(500),
                        Fault::Status(503),
                        Fault::quota_used_up(),
                        Fault::abuse(),
                    ];
                    let refusal = refusals[self.random.usize(..refusals.len())].clone();
                    upstream.always(On::Any, refusal);
                    return;
                }
            }
        }
    }

    /// Some guests at about the same time.
    async fn wave(&mut self, weather: Weather) -> Vec<Left> {
        let mut guests = JoinSet::new();
        for _ in 0..self.random.usize(2..=6) {
            let guest = Guest {
                visit: self.visit(),
                late: self.random.usize(..LATEST),
                lies: weather == Weather::Lies,
            };
            let client = self.weir().client();
            guests.spawn(async move { (guest.visit.clone(), guest.come(client).await) });
        }
        let (step, before_a_step) = if weather.is_fair() {
            // About as fast as real time, so that no timeout strikes what is only slow here.
            (Duration::from_millis(20), Duration::from_millis(20))
        } else {
            (Duration::from_millis(500), Duration::from_millis(5))
        };
        let all = guests.join_all();
        self.time.pass_in_steps(step, before_a_step, all).await.0
    }

    fn visit(&mut self) -> Visit {
        let random = &mut self.random;
        let (repository, blob) = self.catalog.a_blob(random);
        match random.u8(..10) {
            0..4 => {
                let name = self.catalog.a_name(random);
                let tagged = &self.catalog.tags[&name];
                if !tagged.is_there {
                    return Visit::Gone { name };
                }
                let images = tagged.images.clone();
                let by_head = random.bool();
                Visit::Image {
                    name,
                    images,
                    by_head,
                }
            }
            4 | 5 => Visit::Blob { repository, blob },
            6 => {
                let start = random.usize(..blob.length());
                let range = start..random.usize(start + 1..=blob.length());
                Visit::Part {
                    repository,
                    blob,
                    range,
                }
            }
            7 => Visit::Leave {
                repository,
                after: random.usize(..blob.length()),
                blob,
            },
            8 => Visit::Slow { repository, blob },
            _ => Visit::Trespass {
                repository: "other/app".to_owned(),
                blob: self.catalog.a_secret(random),
            },
        }
    }

    async fn restart(&mut self) {
        let weir = self.weir.take().expect("weir runs");
        self.weir = Some(weir.restart_in(&self.time).await);
    }

    /// A guest holds the beginning of a blob when weir goes down; the upstream has stalled.
    async fn restart_amid_a_transfer(&mut self) {
        let (repository, blob) = self.catalog.a_blob(&mut self.random);
        let hex = blob.digest.hex();
        let is_begun = self.staged().iter().any(|name| name.contains(&hex));
        if is_begun || self.weir().stored().contains(&hex) {
            return self.restart().await;
        }
        let there = self.random.usize(1..blob.length());
        let gate = Gate::ajar(there);
        self.upstream.fault(On::Blob, Fault::Behind(gate.clone()));
        let path = blob_path(&repository, &blob.digest);
        let mut open = self.weir().client().open(&path).await;
        assert_eq!(open.read_exact(there).await, blob.bytes[..there]);
        self.restart().await;
        gate.open();
        let rest = open.rest().await;
        assert!(there + rest.bytes.len() < blob.length());
        let again = self.weir().client().get(&path).await;
        assert_eq!(again.whole(200), &blob.bytes);
    }

    /// Waits until nothing is under way any more.
    async fn settle(&self) {
        let landed = eventually_async("all flights end", async || {
            self.weir().metrics().await.value("weir_flights", &[]) == 0.0
        });
        self.time.pass_during(landed).await;
    }

    async fn check(&self, weather: Weather, restarted: bool, morning: &Morning, left: &[Left]) {
        let directory = self.weir().cache_directory();
        assert_eq!(disk::wrong_files(&directory), Vec::<PathBuf>::new());
        let blobs = directory.join("blobs");
        let limit = if self.small {
            SMALL_CACHE_BYTES
        } else {
            1 << 30
        };
        let within = eventually("the cache is within its limit", || {
            disk::bytes(&blobs) <= limit
        });
        self.time.pass_during(within).await;
        // Nobody brought a token to another host, or asked for what no registry knows.
        assert_eq!(self.upstream.count(On::Odd), 0);
        self.weir().client().get("/v2/").await.whole(200);
        if weather.is_fair() {
            for (visit, got) in left {
                assert!(got.everything, "on a fair day nobody got {visit:?}");
            }
            let staged = self.staged();
            assert!(
                staged.iter().all(|name| morning.staged.contains(name)),
                "{staged:?}"
            );
            self.check_transfers(weather, restarted, morning).await;
        } else if weather != Weather::Lies && !self.small {
            self.check_stand_ins(left);
        }
    }

    /// One transfer of what was not there, none of what was, and no pull for what is cached.
    async fn check_transfers(&self, weather: Weather, restarted: bool, morning: &Morning) {
        let contents = self.catalog.blobs();
        let mut sent: BTreeMap<_, u64> = BTreeMap::new();
        for seen in self.upstream.requests(On::Blob) {
            let path = seen.uri.split('?').next().expect("a path");
            let digest = path.rsplit('@').next().expect("a digest at the end");
            *sent.entry(digest.parse().expect("a digest")).or_default() += seen.sent();
        }
        let scrape = self.weir().metrics().await;
        // Counters begin anew with the process.
        let since = |name, before| match restarted {
            true => scrape.value(name, &[]),
            false => scrape.value(name, &[]) - before,
        };
        let evictions = since("weir_cache_evictions_total", morning.evictions);
        let uncached = since("weir_uncached_transfers_total", morning.uncached);
        if self.small {
            let more = sent
                .iter()
                .filter(|(digest, sent)| **sent > contents[digest].length() as u64);
            let is_unexplained = !restarted && evictions + uncached == 0.0;
            assert!(!is_unexplained || weather == Weather::Resets || more.count() == 0);
            return;
        }
        assert_eq!((evictions, uncached), (0.0, 0.0));
        for (digest, sent) in &sent {
            let length = contents[digest].length() as u64;
            assert!(
                !morning.stored.contains(&digest.hex()),
                "{digest} was there"
            );
            let is_once = *sent <= length || weather == Weather::Resets;
            assert!(is_once, "{sent} bytes of {digest}, which has {length}");
        }
        self.check_pulls(morning);
    }

    fn check_pulls(&self, morning: &Morning) {
        let mut asked = BTreeSet::new();
        for seen in self.upstream.requests(On::Manifest) {
            let path = seen.uri.split('?').next().expect("a path").to_owned();
            assert!(asked.insert(path.clone()), "two pulls of {path} in a day");
            let (rest, reference) = path.rsplit_once('/').expect("a path");
            let repository = rest
                .trim_start_matches("/v2/")
                .trim_end_matches("/manifests");
            if let Some(hex) = reference.strip_prefix("sha256:") {
                assert!(
                    !morning.stored.contains(hex),
                    "a pull of what was there: {path}"
                );
            } else {
                let name = format!("{repository}:{reference}");
                let is_known = self.catalog.known.contains(&name);
                assert!(!is_known, "a pull for asking about {name}");
            }
        }
    }

    /// A tag that weir knows is served, whatever the upstream is like.
    fn check_stand_ins(&self, left: &[Left]) {
        for (visit, got) in left {
            if let Visit::Image { name, .. } = visit
                && self.catalog.known.contains(name)
            {
                assert!(got.manifest, "{name} is cached and nobody got it");
            }
        }
    }

    /// What weir may be expected to know tomorrow.
    fn learn(&mut self, weather: Weather, left: &[Left]) {
        for (visit, got) in left {
            let Visit::Image { name, .. } = visit else {
                continue;
            };
            if weather.is_fair() && got.everything {
                self.catalog.known.insert(name.clone());
            }
        }
    }
}
