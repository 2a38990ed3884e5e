//! Names of things: small `Copy` values, generation-checked where slots are reused.

/// A command slot of one engine. A stale id is detected by its generation and never reaches another command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CmdId {
    /// Slot number, below 2^24.
    pub index: u32,
    /// Reuse count of the slot, 24 bits, wrapping.
    pub generation: u32,
}

/// A session (I_T nexus) of one engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SessionId {
    /// Slot number.
    pub index: u32,
    /// Reuse count of the slot.
    pub generation: u32,
}

/// A task management function in progress in one engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct TmfId {
    /// Slot number.
    pub index: u32,
    /// Reuse count of the slot.
    pub generation: u32,
}

/// A logical unit, the same number in every engine: a place in their tables and, above it, how often the place was used
/// before. So places are used again, and a number that is late means nothing that came after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct DeviceId(pub u32);

/// A target, the same number in every engine; made like a [`DeviceId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct TargetId(pub u32);

/// Bits of a [`DeviceId`] or [`TargetId`] that are the place in a table.
const PLACE_BITS: u32 = 20;
/// Most devices, and most targets, at the same time.
pub const MAX_PLACES: u32 = 1 << PLACE_BITS;

macro_rules! place {
    ($name:ident) => {
        impl $name {
            /// Its place in tables.
            #[inline(always)]
            pub const fn index(self) -> usize {
                (self.0 & (MAX_PLACES - 1)) as usize
            }

            /// The number of the next one in the same place.
            #[must_use]
            pub const fn successor(self) -> Self {
                Self(self.0.wrapping_add(MAX_PLACES))
            }
        }
    };
}

place!(DeviceId);
place!(TargetId);

/// A reactor and its engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ReactorId(pub u16);

/// An I_T_L nexus across all reactors: who holds a reservation, who must not get a unit attention.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NexusId {
    /// The reactor that the session lives on.
    pub reactor: ReactorId,
    /// The session.
    pub session: SessionId,
    /// The LUN, as decoded number, under which the session sees the device.
    pub lun: u32,
    /// Which of those that had this LUN one after the other: one that was taken away lives on until its last command has
    /// ended, and what it held must not be mistaken for what its successor holds.
    pub instance: u32,
}
