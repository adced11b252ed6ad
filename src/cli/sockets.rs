//! The sockets of a service manager (systemd's `LISTEN_FDS`), and what each of them is for.
//!
//! A name decides (`FileDescriptorName=`): `registry` for clients, `http` for clients without TLS
//! also beside TLS, `admin`. A socket without a name of its own is for clients.
//! Source: sd_listen_fds(3), systemd.socket(5).

use anyhow::{Context as _, bail, ensure};
use listenfd::ListenFd;

use crate::app::Handover;
use crate::server::Handed;

/// What a socket is for.
enum Purpose {
    Registry,
    Plain,
    Admin,
}

/// Takes over what the environment names, and takes it out of the environment. To be called before
/// there are threads.
pub(super) fn take() -> anyhow::Result<Handover> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let mut handover = Handover::default();
    let mut names = names.split(':');
    for at in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        let what = || format!("socket {at} ({name:?}) of the service manager");
        let purpose = Purpose::of(name).with_context(what)?;
        let handed = take_one(&mut sockets, at, &purpose).with_context(what)?;
        match purpose {
            Purpose::Registry | Purpose::Plain => handover.registry.push(handed),
            Purpose::Admin => {
                ensure!(
                    handover.admin.is_none(),
                    "{} is a second one for the admin, and there is only one",
                    what()
                );
                handover.admin = Some(handed);
            }
        }
    }
    Ok(handover)
}

impl Purpose {
    fn of(name: &str) -> anyhow::Result<Purpose> {
        match name {
            "registry" | "" | "unknown" => Ok(Purpose::Registry),
            "http" => Ok(Purpose::Plain),
            "admin" => Ok(Purpose::Admin),
            // What systemd calls it where the unit gives no name.
            unit if unit.ends_with(".socket") => Ok(Purpose::Registry),
            _ => bail!("FileDescriptorName= is registry, http or admin"),
        }
    }
}

fn take_one(sockets: &mut ListenFd, at: usize, purpose: &Purpose) -> anyhow::Result<Handed> {
    if let Ok(Some(listener)) = sockets.take_tcp_listener(at) {
        return Ok(match purpose {
            Purpose::Plain => Handed::Plain(listener),
            Purpose::Registry | Purpose::Admin => Handed::Tcp(listener),
        });
    }
    match sockets.take_unix_listener(at) {
        Ok(Some(listener)) => Ok(Handed::Unix(listener)),
        Ok(None) | Err(_) => bail!("it is neither a TCP nor a unix stream socket"),
    }
}
