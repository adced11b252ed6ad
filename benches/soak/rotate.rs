//! Passwords that change under load, at the registry and in the file: no pull may fail for it, and the
//! new one has to be used within two seconds.
//!
//! The registry takes the new password from the moment before the file is replaced, and the old one for
//! two seconds after, or as long as it is told. Files are replaced in the three ways in which it is done: written over, renamed
//! over, and by the `..data` link of a Kubernetes volume.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::house::House;
use crate::load::{Load, Place};
use crate::site::{Scheme, Site};

const SOON: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(4);
const COLD: usize = 4;
const WARM: usize = 4;
const LAYER_BYTES: u64 = 256 << 10;

/// A file with a password, as somebody keeps it.
struct Secret {
    way: Way,
    folder: PathBuf,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Over,
    Rename,
    Volume,
}

impl Secret {
    fn new(way: Way, folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut secret = Secret {
            way,
            folder,
            number: 0,
        };
        if let Way::Volume = way {
            symlink("..data/password", secret.file())?;
        }
        secret.write("first")?;
        Ok(secret)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("password")
    }

    fn write(&mut self, password: &str) -> io::Result<()> {
        self.number += 1;
        match self.way {
            Way::Over => fs::write(self.file(), password),
            Way::Rename => {
                let beside = self.folder.join("new");
                fs::write(&beside, password)?;
                fs::rename(beside, self.file())
            }
            Way::Volume => {
                // As kubelet does it: a new directory, a link that is swapped, the old one removed.
                let name = format!("..{}", self.number);
                fs::create_dir(self.folder.join(&name))?;
                fs::write(self.folder.join(&name).join("password"), password)?;
                symlink(&name, self.folder.join("..data_tmp"))?;
                fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))?;
                let old = self.folder.join(format!("..{}", self.number - 1));
                if old.exists() {
                    fs::remove_dir_all(old)
                } else {
                    Ok(())
                }
            }
        }
    }
}

pub(crate) fn run(weir: &Path, rotations: usize, grace: Duration) -> Result<()> {
    let house = House::empty(weir)?;
    let ways = [
        ("over.test", Way::Over, Scheme::Basic),
        ("rename.test", Way::Rename, Scheme::Bearer),
        ("volume.test", Way::Volume, Scheme::Basic),
        ("volume-token.test", Way::Volume, Scheme::Bearer),
    ];
    let (mut config, mut secrets, mut places) = (String::new(), Vec::new(), Vec::new());
    for (at, (registry, way, scheme)) in ways.into_iter().enumerate() {
        let site = Site::start(scheme, "first", None)?;
        let secret = Secret::new(way, house.path(registry))?;
        config += &format!(
            "[registries.{registry:?}]\nendpoints = [\"http://{}\"]\n[[registries.{registry:?}.credentials]]\nusername = \"bot\"\npassword_file = {:?}\n",
            site.addresses[0],
            secret.file()
        );
        secrets.push(secret);
        places.push(Place::new(at, registry, site, LAYER_BYTES));
    }
    // Each warm pull asks the registry whether the tag is still the same.
    house.configure(&format!("[tags]\nfresh_for = \"0s\"\n{config}"))?;
    let process = house.start()?;
    let load = Load::new(process.registry, places, LAYER_BYTES);
    if let Err(trouble) = load.warm_up() {
        anyhow::bail!("before any change: {trouble}");
    }
    let used = load.during(COLD, WARM, || rotate(&load, &mut secrets, rotations, grace));
    report(&load, used?, rotations)
}

/// How long after the file was replaced each new password was first shown, and the old one last.
fn rotate(
    load: &Load,
    secrets: &mut [Secret],
    rotations: usize,
    grace: Duration,
) -> io::Result<Used> {
    let mut used = Used::default();
    let mut old = "first".to_owned();
    for number in 1..=rotations {
        let password = format!("password-{number}");
        let mut replaced = Vec::new();
        for (secret, place) in secrets.iter_mut().zip(&load.places) {
            place.site.change_password(&password, grace);
            secret.write(&password)?;
            replaced.push(Instant::now());
        }
        thread::sleep(EVERY);
        for (place, replaced) in load.places.iter().zip(replaced) {
            // Never within this round counts as the whole of it.
            let first = place.site.shown(&password).map(|(first, _)| first);
            used.new
                .push(first.map_or(EVERY, |first| first.saturating_duration_since(replaced)));
            if let Some((_, last)) = place.site.shown(&old) {
                used.old.push(last.saturating_duration_since(replaced));
            }
        }
        old = password;
    }
    Ok(used)
}

#[derive(Default)]
struct Used {
    new: Vec<Duration>,
    old: Vec<Duration>,
}

fn report(load: &Load, mut used: Used, rotations: usize) -> Result<()> {
    let refused: u64 = load
        .places
        .iter()
        .map(|place| Arc::clone(&place.site).refused())
        .sum();
    let failed = load.failures();
    for (_, trouble) in failed.iter().take(5) {
        eprintln!("{trouble}");
    }
    used.new.sort();
    used.old.sort();
    let worst = *used.new.last().unwrap_or(&Duration::MAX);
    println!(
        "rotate: {rotations} rotations of 4 files; {} cold and {} warm pulls, {} failed; the new password was first shown after {} ms (median) and {} ms (most), the old one last after {} ms (most); {refused} logins refused",
        load.counts.cold.load(Ordering::SeqCst),
        load.counts.warm.load(Ordering::SeqCst),
        failed.len(),
        used.new[used.new.len() / 2].as_millis(),
        worst.as_millis(),
        used.old.last().unwrap_or(&Duration::ZERO).as_millis(),
    );
    ensure!(failed.is_empty(), "some pulls failed");
    ensure!(worst < SOON, "a new password was used too late");
    Ok(())
}
