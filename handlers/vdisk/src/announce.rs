//! What initiators have to be told when a disk takes the place of another one of the same name, under the same LUNs.

use scst_cmdset::DiskParameters;
use scst_scsi::Asc;

use crate::disk::Vdisk;

impl Vdisk {
    /// Lists the unit attentions that are true of this disk for initiators that know `old`: each says what to read again. Those of
    /// a reset are not among them.
    pub fn differences_from(&self, old: &Self) -> Vec<Asc> {
        let (new, old) = (&self.shared, &old.shared);
        let identity = |shared: &crate::shared::Shared| shared.file().map(|open| open.identity);
        let protected = |shared: &crate::shared::Shared| shared.disk.read_only || shared.is_storage_protected();
        let modes = new.pages().current != old.pages().current || protected(new) != protected(old);
        let all = [
            (Asc::NOT_READY_TO_READY_CHANGE, identity(new) != identity(old)),
            (Asc::CAPACITY_DATA_CHANGED, new.geometry() != old.geometry()),
            (Asc::INQUIRY_DATA_CHANGED, inquiry_differs(&new.disk, &old.disk)),
            (Asc::MODE_PARAMETERS_CHANGED, modes),
        ];
        all.into_iter().filter(|(_, is_true)| *is_true).map(|(asc, _)| asc).collect()
    }
}

/// Whether the standard INQUIRY data or a page of the vital product data differ: all parameters are in one of them, but for those
/// that only mode parameters are made of. The limits in VPD page B0h are in blocks.
fn inquiry_differs(new: &DiskParameters, old: &DiskParameters) -> bool {
    let elsewhere = DiskParameters {
        read_only: new.read_only,
        write_through: new.write_through,
        task_set_per_nexus: new.task_set_per_nexus,
        ..old.clone()
    };
    elsewhere != *new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VdiskConfig;

    #[test]
    fn each_attention_is_announced_where_it_is_true_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["disk", "other"].map(|name| {
            let path = dir.path().join(name);
            std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
            path
        });
        let config = VdiskConfig { optimal_transfer: 0, ..VdiskConfig::file("d", &path) };
        let old = Vdisk::open(config.clone()).unwrap();
        let announced = |change: &dyn Fn(&mut VdiskConfig)| {
            let mut config = config.clone();
            change(&mut config);
            Vdisk::open(config).unwrap().differences_from(&old)
        };
        assert_eq!(announced(&|_| {}), []);
        assert_eq!(announced(&|c| c.filename.clone_from(&other)), [Asc::NOT_READY_TO_READY_CHANGE]);
        for identity in [
            &|c: &mut VdiskConfig| c.serial = Some("1".to_owned()),
            &|c: &mut VdiskConfig| c.product = Some("p".to_owned()),
            &|c: &mut VdiskConfig| c.eui64 = Some(1),
            &|c: &mut VdiskConfig| c.removable = true,
            &|c: &mut VdiskConfig| c.thin_provisioned = true,
        ] as [&dyn Fn(&mut VdiskConfig); 5]
        {
            assert_eq!(announced(identity), [Asc::INQUIRY_DATA_CHANGED]);
        }
        assert_eq!(announced(&|c| c.read_only = true), [Asc::MODE_PARAMETERS_CHANGED]);
        assert_eq!(announced(&|c| c.write_through = true), [Asc::MODE_PARAMETERS_CHANGED]);
        assert_eq!(announced(&|c| c.block_size = 4096), [Asc::CAPACITY_DATA_CHANGED, Asc::INQUIRY_DATA_CHANGED]);
        let null = |size| Vdisk::open(VdiskConfig::null("n", size)).unwrap();
        assert_eq!(null(8192).differences_from(&null(4096)), [Asc::CAPACITY_DATA_CHANGED]);
    }
}
