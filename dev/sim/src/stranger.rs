//! Connections of somebody who is no initiator, or a bad one.

use scst_core::Nanos;
use scst_reactor::sim::{PeerState, SimPeer};
use scst_testkit::initiator::Core;
use scst_testkit::pdu::{Digests, Pdu, opcode};

use crate::daemon::portal;
use crate::scene::Scene;

/// A connection that will not become a session.
pub struct Stranger {
    peer: SimPeer,
    until: Nanos,
}

impl Stranger {
    /// Connects and says something; None when nobody listens.
    pub fn new(scene: &mut Scene) -> Option<Self> {
        let peer = scene.world.connect(portal()).ok()?;
        let bytes = Self::words(scene);
        scene.log(|| format!("stranger on {}: {} bytes", peer.id(), bytes.len()));
        peer.send(&bytes);
        let time = scene.pick(&[1_000, 1_000_000, 1_000_000_000, 30_000_000_000]);
        Some(Self { peer, until: scene.now().after(Nanos(time)) })
    }

    fn words(scene: &mut Scene) -> Vec<u8> {
        let mut login = Core::new(scene.plan.login(&scene.plan.clients[0]));
        login.start();
        let mut bytes = login.take_output();
        match scene.rng.below(6) {
            0 => Vec::new(),
            1 => {
                let length = scene.rng.below(300);
                (0..length).map(|_| scene.rng.next_u64() as u8).collect()
            }
            2 => {
                bytes.truncate(scene.rng.below(bytes.len() as u64) as usize);
                bytes
            }
            3 => {
                let at = scene.rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << scene.rng.below(8);
                bytes
            }
            4 => {
                // A header that promises more than anybody sends.
                let mut header = Pdu::new(opcode::LOGIN).to_bytes(Digests::default());
                header[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
                header
            }
            _ => Pdu::new(opcode::SCSI_COMMAND).to_bytes(Digests::default()),
        }
    }

    /// When it goes.
    pub fn until(&self) -> Nanos {
        self.until
    }

    /// Listens, and goes when it is time; None when it has gone.
    pub fn step(self, scene: &mut Scene) -> Option<Self> {
        let ended = self.peer.recv(&mut Vec::new()) != PeerState::Open;
        if !ended && self.until > scene.now() {
            return Some(self);
        }
        if ended || scene.rng.chance(500_000) {
            self.peer.close()
        } else {
            self.peer.reset()
        }
        None
    }

    /// Goes at once.
    pub fn leave(self) {
        self.peer.reset();
    }
}
