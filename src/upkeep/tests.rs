//! The upkeep over a store in a temporary directory, on a paused clock.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use super::*;
use crate::oci::{Algorithm, Digest};

const PIECE: usize = 100 << 10;

/// A store with its upkeep at work.
struct House {
    store: Arc<Store>,
    dials: Dials,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl House {
    fn open(config: &config::Cache) -> Self {
        let registry = prometheus::Registry::new();
        let clock = Clock::following(SystemTime::now());
        let metrics = crate::store::Metrics::new(&registry);
        let store = Arc::new(Store::open(config, clock, metrics).unwrap());
        let upkeep = Upkeep::new(config, Arc::clone(&store), clock, Metrics::new(&registry));
        let dials = upkeep.dials();
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let until = cancel.clone();
        tasks.spawn(async move { upkeep.run(until).await });
        House {
            store,
            dials,
            tasks,
            cancel,
        }
    }

    async fn close(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.flush().await;
    }

    async fn put(&self, name: u64) -> Digest {
        let mut content = name.to_be_bytes().to_vec();
        content.resize(PIECE, 0);
        let digest = Digest::of(Algorithm::Sha256, &content);
        self.store.put(&digest, Bytes::from(content)).await.unwrap();
        digest
    }

    /// Lets time pass until something is so.
    async fn until(&self, what: &str, so: impl Fn(&Store) -> bool) {
        for _ in 0..10_000 {
            if so(&self.store) {
                return;
            }
            sleep(Duration::from_secs(60)).await;
        }
        panic!("never: {what}");
    }
}

fn config(directory: &Path) -> config::Cache {
    config::Cache {
        directory: directory.to_owned(),
        max_size: 20 * PIECE as u64,
        min_free: 0,
        max_age: None,
        scrub_rate: 10 << 20,
        flights_max: 10,
    }
}

fn path(directory: &Path, digest: &Digest) -> std::path::PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

#[tokio::test(start_paused = true)]
async fn the_cache_comes_to_rest_below_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(&config(dir.path()));
    for name in 0..50 {
        house.put(name).await;
        assert!(house.store.stats().bytes <= 21 * PIECE as u64);
    }
    house
        .until("below the high water", |store| {
            store.stats().bytes <= 19 * PIECE as u64
        })
        .await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(&config(dir.path()));
    let digest = house.put(0).await;
    house.close().await;
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let house = House::open(&config(dir.path()));
    house
        .until("found by the walk", |store| store.stats().objects == 1)
        .await;
    house.close().await;
    fs::remove_file(path(dir.path(), &digest)).unwrap();
    let house = House::open(&config(dir.path()));
    house
        .until("missed by the walk", |store| store.stats().objects == 0)
        .await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_found_within_a_round() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(&config(dir.path()));
    let mut digests = Vec::new();
    for name in 0..10 {
        digests.push(house.put(name).await);
    }
    let victim = path(dir.path(), &digests[7]);
    let file = File::options().write(true).open(&victim).unwrap();
    file.write_all_at(b"x", 5000).unwrap();
    house
        .until("moved aside", |store| !store.contains(&digests[7]))
        .await;
    assert_eq!(house.store.stats().objects, 9);
    assert_eq!(
        fs::read_dir(dir.path().join("quarantine")).unwrap().count(),
        1
    );
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_can_be_asked_for_where_there_is_none_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(&config::Cache {
        scrub_rate: 0,
        ..config(dir.path())
    });
    let digest = house.put(0).await;
    let file = File::options()
        .write(true)
        .open(path(dir.path(), &digest))
        .unwrap();
    file.write_all_at(b"x", 5000).unwrap();
    sleep(Duration::from_secs(2 * 24 * 3600)).await;
    assert!(house.store.contains(&digest));
    house.store.ask_for(Chore::Scrub);
    house
        .until("moved aside", |store| !store.contains(&digest))
        .await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_old_goes_and_what_is_used_stays() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let house = House::open(&config::Cache {
        max_age: Some(10 * hour),
        ..config(dir.path())
    });
    let (old, used) = (house.put(0).await, house.put(1).await);
    for _ in 0..20 {
        sleep(hour).await;
        house.store.blob(&used).unwrap().unwrap();
    }
    assert!(!house.store.contains(&old));
    assert!(house.store.contains(&used));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn stale_partial_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(&config(dir.path()));
    let digest = Digest::of(Algorithm::Sha256, b"never finished");
    house.store.stage(&digest, None).await.unwrap().park();
    let staging = dir.path().join("staging");
    let name = fs::read_dir(&staging)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = File::options().write(true).open(name).unwrap();
    file.set_modified(SystemTime::now() - STAGED_KEPT_FOR)
        .unwrap();
    house
        .until("swept", |_| fs::read_dir(&staging).unwrap().count() == 0)
        .await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_upkeep_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(&config(dir.path()));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_age_and_rate_count_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let quiet = config::Cache {
        scrub_rate: 0,
        ..config(dir.path())
    };
    let house = House::open(&quiet);
    let (bad, old) = (house.put(0).await, house.put(1).await);
    let file = File::options()
        .write(true)
        .open(path(dir.path(), &bad))
        .unwrap();
    file.write_all_at(b"x", 5000).unwrap();
    sleep(Duration::from_secs(2 * 24 * 3600)).await;
    assert!(house.store.contains(&bad) && house.store.contains(&old));
    // So slowly that the first piece is waited for until the rate is raised.
    let turn = |scrub_rate, max_age| {
        house.dials.turn(&config::Cache {
            scrub_rate,
            max_age,
            ..quiet.clone()
        });
    };
    turn(1, None);
    sleep(Duration::from_secs(60)).await;
    turn(10 << 20, None);
    sleep(Duration::from_secs(60)).await;
    assert!(!house.store.contains(&bad), "checked within a minute");
    turn(0, Some(Duration::from_secs(3600)));
    sleep(Duration::from_secs(3600)).await;
    assert!(!house.store.contains(&old), "older than an hour");
    house.close().await;
}
