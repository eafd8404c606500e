//! The identity of a replica: who it is, which cluster it belongs to, whether it may vote.

use std::io;

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::quorum::REPLICAS_MAX;
use mainstay_model::{
    ClusterId, Configuration, ConfigurationId, GroupId, Plants, Recovered, ReplicaId,
};

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, Meaning, OpenError, is_no_room};
use crate::layout::TEMPORARY;
use crate::log::Log;
use crate::options::LogOptions;

const MAGIC: [u8; 8] = *b"MNSTYIDN";
const VERSION: u16 = 1;
/// Magic, version, two reserved bytes, checksum.
const HEAD_LEN: usize = 16;
/// No identity of format 1 is longer; what is longer is none.
const LEN_MAX: u64 = 4096;

const FLAG_AMNESIAC: u32 = 1;
const FLAG_LOG_BEGUN: u32 = 2;
const FLAG_STOPPED_CLEAN: u32 = 4;

/// How a group protects its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Style {
    /// Every replica executes every request in the order that Multi-Paxos decides.
    #[default]
    Consensus,
}

/// When a promise may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// After it is durable.
    #[default]
    Sync,
}

/// What stands in the file `identity` of a replica's folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The replica.
    pub me: ReplicaId,
    /// The replica lost what it promised: it learns and never votes.
    pub amnesiac: bool,
    /// A log was begun in this folder: without one, what was promised is lost.
    pub log_begun: bool,
    /// The group.
    pub group: GroupId,
    /// How the group protects its service.
    pub style: Style,
    /// When a promise may leave.
    pub durability: Durability,
    /// The first configuration of the group.
    pub configuration: Configuration,
    /// The version of the service's state format (`Service::version`).
    pub service_version: u32,
    /// The boot of the machine in which the folder was last opened; 0 where it is not recorded, as
    /// in `sync` durability.
    pub boot: u128,
    /// The last process ended after a successful sync; recorded together with `boot`.
    pub stopped_clean: bool,
}

impl Identity {
    /// The name of the file.
    pub const FILE: &'static str = "identity";

    /// Writes the identity into a folder that has none.
    ///
    /// # Errors
    /// [`OpenError::IdentityExists`]; those of the operating system.
    pub fn create<D: Disk>(&self, disk: &D) -> Result<(), OpenError> {
        if exists(disk)? { Err(OpenError::IdentityExists) } else { self.store(disk) }
    }

    /// Reads the identity of a folder.
    ///
    /// # Errors
    /// [`OpenError::NoIdentity`], [`OpenError::NewerFormat`], [`OpenError::Damaged`]; those of the
    /// operating system.
    pub fn load<D: Disk>(disk: &D) -> Result<Self, OpenError> {
        if !exists(disk)? {
            return Err(OpenError::NoIdentity);
        }
        let file = disk.open(Self::FILE).map_err(|source| failed("open", source))?;
        let len = file.len().map_err(|source| failed("read", source))?.min(LEN_MAX + 1);
        let mut bytes = vec![0; len as usize];
        let read = file.read_at(0, &mut bytes).map_err(|source| failed("read", source))?;
        bytes.truncate(read);
        Self::decode(&bytes)
    }

    /// Replaces the identity of the folder by this one, durably and in one piece.
    ///
    /// # Errors
    /// Those of the operating system: what the folder holds is then the old or the new one.
    pub fn store<D: Disk>(&self, disk: &D) -> Result<(), OpenError> {
        let temporary = format!("{}{TEMPORARY}", Self::FILE);
        let bytes = self.encode();
        let names = disk.list().map_err(|source| failed("list the folder of", source))?;
        if names.contains(&temporary) {
            disk.remove(&temporary).map_err(|source| failed("remove what is left of", source))?;
        }
        let mut file = disk.create(&temporary).map_err(|source| failed("write", source))?;
        file.write_at(0, &bytes).map_err(|source| {
            if is_no_room(&source) {
                OpenError::NoRoom { file: temporary.clone(), bytes: bytes.len() as u64, source }
            } else {
                failed("write", source)
            }
        })?;
        file.sync().map_err(|source| failed("sync", source))?;
        disk.rename(&temporary, Self::FILE).map_err(|source| failed("replace", source))?;
        disk.sync_folder().map_err(|source| failed("sync the folder of", source))
    }

    /// Opens the log of this replica, or begins it, and marks that it was begun before it returns:
    /// from then on a folder without a log is one that lost it. Whose log it is, and whether it must
    /// exist, is filled into `options`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_log<D: Disk, P: Plants>(
        &mut self,
        disk: D,
        options: LogOptions,
        plants: P,
    ) -> Result<(Log<D, P>, Recovered), OpenError> {
        let (cluster, replica, begun) = (self.cluster, self.me, self.log_begun);
        let opened = Log::open(disk, LogOptions { cluster, replica, begun, ..options }, plants)?;
        self.mark_log_begun(opened.0.disk())?;
        Ok(opened)
    }

    /// Marks the replica as one that lost what it promised; durable when this returns. Only a
    /// higher epoch ends it.
    ///
    /// # Errors
    /// Those of [`Identity::store`].
    pub fn mark_amnesiac<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        self.amnesiac = true;
        self.store(disk)
    }

    /// Marks that a log was begun; durable when this returns. To be called after the first
    /// [`crate::Log::open`], before anything is promised.
    ///
    /// # Errors
    /// Those of [`Identity::store`].
    pub fn mark_log_begun<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        if self.log_begun {
            return Ok(());
        }
        self.log_begun = true;
        self.store(disk)
    }
}

fn failed(tried: &'static str, source: io::Error) -> OpenError {
    OpenError::Io { file: Identity::FILE.to_owned(), tried, source }
}

fn exists<D: Disk>(disk: &D) -> Result<bool, OpenError> {
    let names = disk.list().map_err(|source| failed("list the folder of", source))?;
    Ok(names.iter().any(|name| name == Identity::FILE))
}

fn damaged(found: &'static str) -> OpenError {
    let file = Identity::FILE.to_owned();
    OpenError::Damaged(Damage { file, offset: 0, found, meaning: Meaning::Amnesia })
}

fn newer(found: u32) -> OpenError {
    OpenError::NewerFormat { file: Identity::FILE.to_owned(), found, known: u32::from(VERSION) }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..HEAD_LEN - 4]);
    hasher.update(&bytes[HEAD_LEN..]);
    hasher.finalize()
}

impl Identity {
    /// The bytes of the file; the table stands in docs/protocols/log.md.
    fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        for (is_set, flag) in [
            (self.amnesiac, FLAG_AMNESIAC),
            (self.log_begun, FLAG_LOG_BEGUN),
            (self.stopped_clean, FLAG_STOPPED_CLEAN),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let mut out = Vec::new();
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_u32(0); // the checksum, below
        out.put_u128(self.cluster.0);
        out.put_replica(self.me);
        out.put_u32(flags);
        out.put_u128(self.boot);
        out.put_u32(self.service_version);
        out.put_u32(1); // groups
        out.put_u32(self.group.0);
        out.put_u16(match self.style {
            Style::Consensus => 1,
        });
        out.put_u16(match self.durability {
            Durability::Sync => 1,
        });
        out.put_u64(self.configuration.id.0);
        out.put_u64(self.configuration.alpha);
        out.put_u32(self.configuration.replicas.len() as u32);
        for &replica in &self.configuration.replicas {
            out.put_replica(replica);
        }
        let checksum = checksum(&out);
        out[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the bytes of the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        if bytes.len() < HEAD_LEN || bytes[..MAGIC.len()] != MAGIC {
            return Err(damaged("it does not begin like an identity"));
        }
        if bytes.len() as u64 > LEN_MAX {
            return Err(damaged("it is longer than any identity"));
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(&bytes[MAGIC.len()..]));
        let mut head = || Ok((reader.u16()?, reader.u16()?, reader.u32()?));
        let (version, _, expected) = head().map_err(|_: DecodeError| damaged("it is cut off"))?;
        if expected != checksum(bytes) {
            return Err(damaged("its checksum does not fit its bytes"));
        }
        if version != VERSION {
            return Err(newer(u32::from(version)));
        }
        // The checksum fits: what cannot be read now was written so, by a later version.
        let identity = Self::read_fields(&mut reader).map_err(|_| newer(u32::from(version) + 1))?;
        reader.finish().map_err(|_| newer(u32::from(version) + 1))?;
        Ok(identity)
    }

    /// Reads the fields behind the head of the file.
    fn read_fields(reader: &mut Reader) -> Result<Self, DecodeError> {
        let cluster = ClusterId(reader.u128()?);
        let me = reader.replica()?;
        let flags = reader.u32()?;
        if flags & !(FLAG_AMNESIAC | FLAG_LOG_BEGUN | FLAG_STOPPED_CLEAN) != 0 {
            return Err(DecodeError::BadValue("flags"));
        }
        let boot = reader.u128()?;
        let service_version = reader.u32()?;
        if reader.u32()? != 1 {
            return Err(DecodeError::BadValue("groups"));
        }
        let group = GroupId(reader.u32()?);
        let style = match reader.u16()? {
            1 => Style::Consensus,
            _ => return Err(DecodeError::BadValue("style")),
        };
        let durability = match reader.u16()? {
            1 => Durability::Sync,
            _ => return Err(DecodeError::BadValue("durability")),
        };
        let id = ConfigurationId(reader.u64()?);
        let alpha = reader.u64()?;
        let count = reader.count(12)?;
        if count == 0 || count > REPLICAS_MAX {
            return Err(DecodeError::BadValue("replicas"));
        }
        let mut replicas = Vec::with_capacity(count);
        for _ in 0..count {
            replicas.push(reader.replica()?);
        }
        Ok(Self {
            cluster,
            me,
            amnesiac: flags & FLAG_AMNESIAC != 0,
            log_begun: flags & FLAG_LOG_BEGUN != 0,
            group,
            style,
            durability,
            configuration: Configuration { id, replicas, alpha },
            service_version,
            boot,
            stopped_clean: flags & FLAG_STOPPED_CLEAN != 0,
        })
    }
}
