//! The address a request comes from, through proxies.
//!
//! `X-Forwarded-For` is written by whoever sends it. It is believed only as far as trusted proxies
//! wrote it: from its end backwards, up to the first address that is none of them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Proxies in a row at most; a longer header is somebody's play.
const HOPS_MAX: usize = 16;

pub(super) fn of_client(peer: IpAddr, forwarded_for: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let hops = forwarded_for.iter().rev().flat_map(|list| list.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        if !trusted.iter().any(|network| network.contains(&client)) {
            break;
        }
        match parse(hop.trim()) {
            Some(address) => client = address.to_canonical(),
            None => break,
        }
    }
    client
}

/// An address, with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .ok()
        .or_else(|| hop.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (peer, header, client) in [
            ("192.0.2.1", None, "192.0.2.1"),
            // Not a proxy of ours: it may say what it likes.
            ("192.0.2.1", Some("10.9.9.9"), "192.0.2.1"),
            ("10.0.0.1", Some("192.0.2.7"), "192.0.2.7"),
            ("10.0.0.1", Some("192.0.2.7:4711"), "192.0.2.7"),
            ("::1", Some("[2001:db8::1]:4711"), "2001:db8::1"),
            ("::1", Some("[2001:db8::1]"), "2001:db8::1"),
            // What stands before the first untrusted address was written by that client.
            (
                "10.0.0.1",
                Some("127.0.0.1, 192.0.2.7, 10.0.0.2"),
                "192.0.2.7",
            ),
            ("10.0.0.1", Some("10.0.0.3,10.0.0.2"), "10.0.0.3"),
            ("10.0.0.1", Some("nonsense"), "10.0.0.1"),
            ("::ffff:10.0.0.1", Some("192.0.2.7"), "192.0.2.7"),
        ] {
            let found = of_client(peer.parse().unwrap(), &Vec::from_iter(header), &trusted);
            assert_eq!(
                found,
                client.parse::<IpAddr>().unwrap(),
                "{peer} {header:?}"
            );
        }

        // A proxy may add a line of its own behind the client's.
        let lines = ["127.0.0.1", "192.0.2.7"];
        let found = of_client("10.0.0.1".parse().unwrap(), &lines, &trusted);
        assert_eq!(found, "192.0.2.7".parse::<IpAddr>().unwrap());
    }
}
