//! The part of the suite about identities.

use mainstay_model::{Configuration, ConfigurationId, GroupId, NoPlants, ReplicaId};

use super::{CLUSTER, LEADER, ME, Place, flip, options, read};
use crate::disk::Disk;
use crate::error::{Meaning, OpenError};
use crate::identity::{Durability, Identity, Style};

fn identity() -> Identity {
    let replicas = vec![ReplicaId::default(), ME, LEADER];
    Identity {
        cluster: CLUSTER,
        me: ME,
        amnesiac: false,
        log_begun: false,
        group: GroupId::FIRST,
        style: Style::Consensus,
        durability: Durability::Sync,
        configuration: Configuration { id: ConfigurationId(1), replicas, alpha: 1024 },
        service_version: 7,
        boot: 0,
        stopped_clean: false,
    }
}

pub(super) fn comes_back<T: Place>(place: &mut T) {
    assert!(matches!(Identity::load(&place.open()), Err(OpenError::NoIdentity)));
    identity().create(&place.open()).expect("create");
    assert!(matches!(identity().create(&place.open()), Err(OpenError::IdentityExists)));
    let mut loaded = Identity::load(&place.open()).expect("load");
    assert_eq!(loaded, identity());
    drop(loaded.open_log(place.open(), options(), NoPlants).expect("the log is begun"));
    loaded.mark_amnesiac(&place.open()).expect("mark");
    let mut loaded = Identity::load(&place.open()).expect("load");
    assert_eq!(loaded, Identity { amnesiac: true, log_begun: true, ..identity() });
    let disk = place.open();
    for name in disk.list().expect("list") {
        if name.starts_with("log-") {
            disk.remove(&name).expect("remove");
        }
    }
    drop(disk);
    let error = loaded.open_log(place.open(), options(), NoPlants).map(|opened| opened.1);
    assert!(matches!(error, Err(OpenError::Damaged(_))), "{error:?}");
}

pub(super) fn damaged<T: Place>(place: &mut T) {
    identity().create(&place.open()).expect("create");
    let len = read(&place.open(), Identity::FILE).len() as u64;
    for byte in 0..len {
        flip(place, Identity::FILE, byte);
        let error = Identity::load(&place.open()).expect_err("it is refused");
        let OpenError::Damaged(damage) = error else { panic!("damage is told, not: {error}") };
        assert_eq!((damage.file.as_str(), damage.meaning), (Identity::FILE, Meaning::Amnesia));
        flip(place, Identity::FILE, byte);
    }
    assert_eq!(Identity::load(&place.open()).expect("load"), identity());
}
