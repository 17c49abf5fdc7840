//! What the reading of flags asks of a manifest. None is made here.

use crate::project::{DomainSpecs, SqlFile};

pub struct Manifest {
    pub domain: DomainSpecs,
    pub flag_files: Vec<SqlFile>,
}
