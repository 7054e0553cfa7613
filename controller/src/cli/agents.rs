//! `faultline ps`, `halt` and `resume`: what is asked of all agents of an inventory at once. None of
//! them succeeds where an agent could not be asked.

use super::{Exit, HaltRequest, Output, PsRequest, ResumeRequest, enter::inside_inventory, print};
use crate::{
    ops::{self, Overview, Resumed},
    place::Place,
};

pub(super) fn ps(request: &PsRequest) -> anyhow::Result<Exit> {
    let PsRequest { inventory, output } = request;
    inside_inventory(inventory, *output, async |inventory| {
        let overview = ops::ps(&Place::Inventory(inventory)).await?;
        show(&overview, *output)?;
        let asked = if overview.is_complete() { Exit::Held } else { Exit::Refused };
        Ok(if overview.has_residue() { Exit::Residue } else { asked })
    })
}

pub(super) fn halt(request: &HaltRequest) -> anyhow::Result<Exit> {
    let HaltRequest { inventory, reason, output } = request;
    inside_inventory(inventory, *output, async |inventory| {
        let overview = ops::halt(&Place::Inventory(inventory), reason).await?;
        show(&overview, *output)?;
        let unproven = overview.has_residue() || !overview.is_complete();
        Ok(if unproven { Exit::Residue } else { Exit::Held })
    })
}

pub(super) fn resume(request: &ResumeRequest) -> anyhow::Result<Exit> {
    let ResumeRequest { inventory, acknowledged, output } = request;
    inside_inventory(inventory, *output, async |inventory| {
        let resumed = ops::resume(&Place::Inventory(inventory), acknowledged).await?;
        let Resumed { not_resumed, .. } = &resumed;
        match output {
            Output::Json => print::json(&resumed)?,
            Output::Text => {
                print::out(&resumed.text())?;
                for refused in not_resumed {
                    print::error(&format!("not resumed: {}", refused.reason));
                }
            }
        }
        Ok(if not_resumed.is_empty() { Exit::Held } else { Exit::Refused })
    })
}

fn show(overview: &Overview, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => print::out(&overview.text())?,
        Output::Json => print::json(overview)?,
    }
    Ok(())
}
