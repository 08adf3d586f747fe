//! A proxy that has just started: its clients come back all at once, and its issuers may be slow or silent.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::config::Issuer as Trusted;

use crate::world::issuer::{Issuer, Token};
use crate::world::server::McpServer;
use crate::world::{RESOURCE, World};

/// D9: whoever comes while the keys are on their way waits for them, and is not told to come again.
#[test]
fn the_first_requests_all_wait_for_the_keys() {
    let issuer = Issuer::start();
    issuer.set_slow(Duration::from_millis(1000));
    let world = World::built(issuer, McpServer::start(), |_| {});
    std::thread::scope(|scope| {
        let first: Vec<_> = (0..8)
            .map(|n| {
                let token = world.token().subject(&format!("s{n}"));
                let world = &world;
                scope.spawn(move || world.call_tool("echo", Some(&token)).status)
            })
            .collect();
        for one in first {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    assert_eq!((world.server.take_calls().len(), world.issuer.fetches()), (8, 1));
}

/// Issuers that say nothing, and many tokens of theirs: refusals, documents and the users of another issuer go on.
#[test]
fn silent_issuers_do_not_take_every_worker() {
    let silent: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let world = World::with(|config| {
        config.issuers.extend(silent.iter().map(|silent| {
            let url = format!("http://{}", silent.local_addr().unwrap());
            let jwks_uri = Some(format!("{url}/jwks"));
            Trusted { issuer: url, jwks_uri, audiences: vec![RESOURCE.into()], ..Trusted::default() }
        }));
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..48 {
            let (world, over) = (&world, &over);
            let url = format!("http://{}", silent[n % silent.len()].local_addr().unwrap());
            let token = Token::new(&url, RESOURCE, world.clock.now().0);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(world.call_tool("echo", Some(&token)).status, 503);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(world.call_tool("echo", None).status, 401);
            assert_eq!(world.ask("GET", "/.well-known/oauth-protected-resource", &[], "").status, 200);
            assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200);
        }
        // With no worker left each of the sixty would have waited for one that waits for three seconds.
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(30), "{took:?}");
    });
    assert_eq!(world.server.take_calls().len(), 20, "nothing of theirs reached the server");
}
