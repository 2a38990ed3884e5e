//! The answers of the target in operational negotiation (RFC 7143 6.2 and clause 13), checked and put in force.

use super::config::Parameters;

/// How a key is negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A list, the answer is one of its values.
    Digest,
    /// Boolean AND or OR.
    And,
    Or,
    /// The smaller or larger number, within a range.
    Minimum(u32, u32),
    Maximum(u32, u32),
    /// Each side states its own.
    Declared,
}

const SEGMENT: (u32, u32) = (512, 0xff_ffff);

fn kind(key: &str) -> Option<Kind> {
    Some(match key {
        "HeaderDigest" | "DataDigest" => Kind::Digest,
        "ImmediateData" => Kind::And,
        "InitialR2T" | "DataPDUInOrder" | "DataSequenceInOrder" => Kind::Or,
        "MaxBurstLength" | "FirstBurstLength" => Kind::Minimum(SEGMENT.0, SEGMENT.1),
        "MaxConnections" | "MaxOutstandingR2T" => Kind::Minimum(1, 65535),
        "DefaultTime2Retain" => Kind::Minimum(0, 3600),
        "ErrorRecoveryLevel" => Kind::Minimum(0, 2),
        "DefaultTime2Wait" => Kind::Maximum(0, 3600),
        "MaxRecvDataSegmentLength" | "TargetAlias" | "TargetPortalGroupTag" | "TargetAddress" => Kind::Declared,
        _ => return None,
    })
}

impl Parameters {
    /// Takes one key of the target. `offered` is what we had said, None if the target speaks first.
    pub(super) fn apply(&mut self, key: &str, value: &str, offered: Option<&str>) -> Result<(), String> {
        if matches!(value, "NotUnderstood" | "Irrelevant" | "Reject") {
            return Ok(());
        }
        let Some(kind) = kind(key) else { return Ok(()) };
        let fault = || format!("{key}={value} as answer to {offered:?}");
        let number = value.parse::<u32>().ok();
        match kind {
            Kind::Digest => {
                if offered.is_some_and(|list| !list.split(',').any(|one| one == value)) {
                    return Err(fault());
                }
            }
            Kind::And | Kind::Or => {
                let forced = if kind == Kind::And { "No" } else { "Yes" };
                if !matches!(value, "Yes" | "No") || (offered == Some(forced) && value != forced) {
                    return Err(fault());
                }
            }
            Kind::Minimum(low, high) | Kind::Maximum(low, high) => {
                let offered = offered.and_then(|text| text.parse::<u32>().ok());
                let wrong = |n: u32| match (kind, offered) {
                    (Kind::Minimum(..), Some(ours)) => n > ours,
                    (Kind::Maximum(..), Some(ours)) => n < ours,
                    _ => false,
                };
                if number.is_none_or(|n| n < low || n > high || wrong(n)) {
                    return Err(fault());
                }
            }
            Kind::Declared => {
                if key == "MaxRecvDataSegmentLength" && number.is_none_or(|n| n < SEGMENT.0 || n > SEGMENT.1) {
                    return Err(fault());
                }
            }
        }
        self.store(key, value, number.unwrap_or(0));
        Ok(())
    }

    /// What we answer to a key that the target offers first; None when it is a declaration.
    pub(super) fn answer(&self, key: &str, value: &str) -> Option<String> {
        match kind(key) {
            Some(Kind::Declared) => None,
            Some(Kind::Digest) => {
                Some(if value.split(',').any(|one| one == "None") { "None" } else { "CRC32C" }.into())
            }
            Some(_) => Some(value.to_owned()),
            None => Some("NotUnderstood".to_owned()),
        }
    }

    fn store(&mut self, key: &str, value: &str, number: u32) {
        let yes = value == "Yes";
        match key {
            "HeaderDigest" => self.digests.header = value == "CRC32C",
            "DataDigest" => self.digests.data = value == "CRC32C",
            "InitialR2T" => self.initial_r2t = yes,
            "ImmediateData" => self.immediate_data = yes,
            "DataPDUInOrder" => self.data_pdu_in_order = yes,
            "DataSequenceInOrder" => self.data_sequence_in_order = yes,
            "MaxBurstLength" => self.max_burst_length = number,
            "FirstBurstLength" => self.first_burst_length = number,
            "MaxConnections" => self.max_connections = number,
            "MaxOutstandingR2T" => self.max_outstanding_r2t = number,
            "DefaultTime2Wait" => self.default_time2wait = number,
            "DefaultTime2Retain" => self.default_time2retain = number,
            "ErrorRecoveryLevel" => self.error_recovery_level = number,
            "MaxRecvDataSegmentLength" => self.max_xmit_data_segment_length = number,
            "TargetPortalGroupTag" => self.target_portal_group_tag = value.parse().ok(),
            "TargetAlias" => self.target_alias = Some(value.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_within_the_offer_are_put_in_force() {
        let mut parameters = Parameters::default();
        parameters.apply("MaxBurstLength", "4096", Some("8192")).unwrap();
        parameters.apply("HeaderDigest", "CRC32C", Some("CRC32C,None")).unwrap();
        parameters.apply("InitialR2T", "No", Some("No")).unwrap();
        parameters.apply("MaxRecvDataSegmentLength", "512", Some("262144")).unwrap();
        assert_eq!(parameters.max_burst_length, 4096);
        assert!(parameters.digests.header);
        assert!(!parameters.initial_r2t);
        assert_eq!(parameters.max_xmit_data_segment_length, 512);
    }

    #[test]
    fn answers_beyond_the_offer_are_faults() {
        let mut parameters = Parameters::default();
        for (key, value, offered) in [
            ("MaxBurstLength", "8193", "8192"),
            ("DefaultTime2Wait", "1", "2"),
            ("InitialR2T", "No", "Yes"),
            ("ImmediateData", "Yes", "No"),
            ("DataDigest", "CRC32C", "None"),
            ("FirstBurstLength", "511", "65536"),
            ("ErrorRecoveryLevel", "x", "0"),
        ] {
            assert_eq!(
                parameters.apply(key, value, Some(offered)),
                Err(format!("{key}={value} as answer to {:?}", Some(offered)))
            );
        }
        assert_eq!(parameters, Parameters::default());
    }
}
