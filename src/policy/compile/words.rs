//! Converts the words of a policy file to their values in the model.

use crate::limit::Overdraft;
use crate::policy::model::{AlgorithmKind, EstimateAt, Lease, Mode, OnOutage};
use crate::policy::schema::{
    AlgorithmFile, EstimateAtFile, LeaseFile, ModeFile, OutageFile, OverdraftFile,
};

impl From<LeaseFile> for Lease {
    fn from(word: LeaseFile) -> Self {
        match word {
            LeaseFile::Auto => Self::Auto,
            LeaseFile::Off => Self::Off,
        }
    }
}

impl From<EstimateAtFile> for EstimateAt {
    fn from(word: EstimateAtFile) -> Self {
        match word {
            EstimateAtFile::Request => Self::Request,
            EstimateAtFile::Peek => Self::Peek,
        }
    }
}

impl From<ModeFile> for Mode {
    fn from(word: ModeFile) -> Self {
        match word {
            ModeFile::Off => Self::Off,
            ModeFile::Warn => Self::Warn,
            ModeFile::Enforce | ModeFile::Strict => Self::Enforce,
            ModeFile::Quota => Self::Quota,
            ModeFile::Shadow => Self::Shadow,
        }
    }
}

impl From<OutageFile> for OnOutage {
    fn from(word: OutageFile) -> Self {
        match word {
            OutageFile::Error => Self::Error,
            OutageFile::Allow => Self::Allow,
            OutageFile::Deny => Self::Deny,
            OutageFile::Local => Self::Local,
        }
    }
}

impl From<OverdraftFile> for Overdraft {
    fn from(word: OverdraftFile) -> Self {
        match word {
            OverdraftFile::None => Self::None,
            OverdraftFile::Allow => Self::Allow,
            OverdraftFile::Clip => Self::Clip,
        }
    }
}

impl From<AlgorithmFile> for AlgorithmKind {
    fn from(word: AlgorithmFile) -> Self {
        match word {
            AlgorithmFile::SlidingWindow => Self::Sliding,
            AlgorithmFile::FixedWindow => Self::Fixed,
            AlgorithmFile::TokenBucket => Self::Bucket,
            AlgorithmFile::Calendar => Self::Calendar,
        }
    }
}
