//! A configuration that changes every second under load, by SIGHUP and by the file alone: no pull may
//! fail for it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::house::{House, Process};
use crate::load::{Load, Place};
use crate::site::{Scheme, Site};

const EVERY: Duration = Duration::from_secs(1);
const COLD: usize = 4;
const WARM: usize = 4;
const LAYER_BYTES: u64 = 256 << 10;
/// Each so many-th configuration is a bad one.
const BAD_EVERY: usize = 7;

pub(crate) fn run(weir: &Path, reloads: usize) -> Result<()> {
    let house = House::empty(weir)?;
    let kinds = [
        ("basic.test", Scheme::Basic),
        ("bearer.test", Scheme::Bearer),
    ];
    let mut places = Vec::new();
    for (at, (registry, scheme)) in kinds.into_iter().enumerate() {
        let site = Site::start(scheme, "first", None)?;
        places.push(Place::new(at, registry, site, LAYER_BYTES));
    }
    house.configure(&config(&places, 0))?;
    let process = house.start()?;
    let load = Load::new(process.registry, places, LAYER_BYTES);
    if let Err(trouble) = load.warm_up() {
        anyhow::bail!("before any change: {trouble}");
    }
    let changed = load.during(COLD, WARM, || change(&house, &process, &load, reloads));
    changed?;
    let count =
        |result: &str| process.metric(&format!("weir_config_reloads_total{{result=\"{result}\"}}"));
    let (ok, refused) = (count("ok")?, count("refused")?);
    let failed = load.failures();
    for (_, trouble) in failed.iter().take(5) {
        eprintln!("{trouble}");
    }
    println!(
        "reload: {reloads} changes, one a second, half of them by SIGHUP too: {ok} times taken up, {refused} times refused as it should be; {} cold and {} warm pulls, {} failed",
        load.counts.cold.load(Ordering::SeqCst),
        load.counts.warm.load(Ordering::SeqCst),
        failed.len(),
    );
    ensure!(failed.is_empty(), "some pulls failed");
    ensure!(
        refused as usize >= reloads / BAD_EVERY,
        "a bad one was taken up"
    );
    ensure!(
        ok as usize >= reloads - reloads / BAD_EVERY,
        "a change was not taken up"
    );
    Ok(())
}

fn change(house: &House, process: &Process, load: &Load, reloads: usize) -> Result<()> {
    for number in 1..=reloads {
        if number.is_multiple_of(BAD_EVERY) {
            house.configure("[tags]\nfresh_for = \"soon\"\n")?;
        } else {
            house.configure(&config(&load.places, number))?;
        }
        if number.is_multiple_of(2) {
            process.hang_up()?;
        }
        thread::sleep(EVERY);
    }
    Ok(())
}

/// Another one for each number: addresses, limits, times, rules, registries.
fn config(places: &[Place], number: usize) -> String {
    let registries = places.iter().map(|place| {
        format!(
            "[registries.{0:?}]\nendpoints = [\"http://{1}\"]\nquota_reserve = {2}\n[[registries.{0:?}.credentials]]\nusername = \"bot\"\npassword = \"first\"\n",
            place.registry,
            place.site.addresses[number % 2],
            number % 3,
        )
    });
    let registries: String = registries.collect();
    let rules = match number % 4 {
        0 => "",
        _ => "[[access.rules]]\nanonymous = true\nallow = [\"**\"]\n",
    };
    let other = match number % 3 {
        0 => "",
        _ => "[registries.\"other.test\"]\n",
    };
    format!(
        "[tags]\nfresh_for = \"{}ms\"\n[cache]\nflights_max = {}\nscrub_rate = \"{}MiB\"\nmax_age = \"{}d\"\n[server]\nheader_timeout = \"{}s\"\n[upstream]\nparallel_above = \"{}KiB\"\nidle_timeout = \"{}s\"\n{registries}{rules}{other}",
        number % 3,
        100 + number,
        number % 5,
        30 + number,
        10 + number % 5,
        128 * (number % 4),
        20 + number % 7,
    )
}
