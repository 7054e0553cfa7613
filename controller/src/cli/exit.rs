//! What the exit code says. Scripts and CI rely on these numbers: they do not change.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The hypothesis held and the system recovered; or there was nothing to judge and all is well.
    Held = 0,
    /// The hypothesis deviated, or the system did not recover in time.
    Deviated = 1,
    /// Wrong usage or an invalid file.
    Invalid = 2,
    /// Refused, or could not inject: nothing of it is left.
    Refused = 3,
    /// A revert could not be proven: something may be left in a kernel.
    Residue = 4,
    /// Interrupted; what was injected has been reverted.
    Interrupted = 130,
}

impl Exit {
    /// Of two endings, the one that matters more: what may be left behind comes first.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if self.severity() >= other.severity() { self } else { other }
    }

    /// The ending that a report names by its code; as bad as it gets where there is no such one.
    pub fn of_code(code: u8) -> Self {
        let all = [Self::Held, Self::Deviated, Self::Invalid, Self::Refused, Self::Interrupted];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Residue)
    }

    fn severity(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Deviated => 1,
            Self::Refused => 2,
            Self::Invalid => 3,
            Self::Interrupted => 4,
            Self::Residue => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residue_outweighs_everything() {
        for exit in [Exit::Held, Exit::Deviated, Exit::Invalid, Exit::Refused, Exit::Interrupted] {
            assert_eq!(exit.worse(Exit::Residue), Exit::Residue);
            assert_eq!(Exit::Held.worse(exit), exit);
        }
        assert_eq!(Exit::Interrupted as u8, 130);
    }
}
