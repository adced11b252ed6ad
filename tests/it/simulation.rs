//! Seeded days in the house: guests come and go, the upstream has its weather, at night things are
//! broken behind weir's back; after each day the promises are checked.
//!
//! A seed that fails is printed; `WEIR_SIMULATION_SEED` lives it again, alone.

mod catalog;
mod day;
mod guest;
mod night;

use std::ops::RangeInclusive;
use std::sync::Mutex;

use fastrand::Rng;
use tokio::runtime::Builder;

use self::catalog::Catalog;
use crate::support::{HeldTime, House, Upstream, Weir};

const SEEDS: RangeInclusive<u64> = 1..=200;
const DAYS: usize = 3;
/// Lives side by side; each waits more than it works.
const AT_ONCE: usize = 8;
/// Holds a few images of the catalog, never all of them.
const SMALL_CACHE_BYTES: u64 = 300_000;

#[test]
fn two_hundred_seeded_lives_keep_every_promise() {
    let alone = std::env::var("WEIR_SIMULATION_SEED").ok();
    let alone = alone.map(|seed| seed.parse().expect("WEIR_SIMULATION_SEED is a number"));
    let seeds = Mutex::new(alone.map_or(SEEDS, |seed| seed..=seed));
    let next = || seeds.lock().expect("nobody panics with the seeds").next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    live(seed);
                }
            });
        }
    });
}

fn live(seed: u64) {
    let _shown = Shown(seed);
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut life = Life::begin(seed).await;
        for _ in 0..DAYS {
            life.day().await;
            life.night().await;
        }
        life.end().await;
    });
}

/// Says which seed it was, when a promise was broken.
struct Shown(u64);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with WEIR_SIMULATION_SEED={}", self.0);
        }
    }
}

/// One weir over several days.
struct Life {
    random: Rng,
    time: HeldTime,
    upstream: Upstream,
    catalog: Catalog,
    house: House,
    /// `None` only while it restarts.
    weir: Option<Weir>,
    /// The cache is too small for the catalog.
    small: bool,
}

impl Life {
    async fn begin(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let time = HeldTime::hold();
        let upstream = Upstream::start().await;
        let small = random.u8(..3) == 0;
        let max_size = if small { SMALL_CACHE_BYTES } else { 1 << 30 };
        let fresh_for = ["0s", "60s"][random.usize(..2)];
        let house = House::in_front_of(&upstream)
            .config(&format!(
                "[cache]\nmax_size = {max_size:?}\nscrub_rate = \"1TiB\"",
                max_size = max_size.to_string()
            ))
            .config(&format!(
                "[tags]\nfresh_for = {fresh_for:?}\nstale_for = \"1000h\""
            ))
            .config("[server]\ndrain_timeout = \"1s\"")
            .clock(time.clock());
        let catalog = Catalog::fill(&upstream, &mut random);
        let weir = Some(house.start().await);
        Life {
            random,
            time,
            upstream,
            catalog,
            house,
            weir,
            small,
        }
    }

    fn weir(&self) -> &Weir {
        self.weir.as_ref().expect("weir runs")
    }

    async fn end(mut self) {
        let weir = self.weir.take().expect("weir runs");
        self.time.pass_during(weir.stop()).await;
    }
}
