//! `faultline ps`, `halt` and `resume`: what is asked of all agents of an inventory at once.

use super::{Exit, HaltRequest, Output, PsRequest, ResumeRequest, enter::inside_inventory, print};
use crate::{
    ops::{self, Overview},
    place::Place,
};

pub(super) fn ps(request: &PsRequest) -> anyhow::Result<Exit> {
    let PsRequest { inventory, output } = request;
    inside_inventory(inventory, *output, async |inventory| {
        let overview = ops::ps(&Place::Inventory(inventory)).await?;
        show(&overview, *output)?;
        Ok(if overview.has_residue() { Exit::Residue } else { Exit::Held })
    })
}

pub(super) fn halt(request: &HaltRequest) -> anyhow::Result<Exit> {
    let HaltRequest { inventory, reason, output } = request;
    inside_inventory(inventory, *output, async |inventory| {
        let overview = ops::halt(&Place::Inventory(inventory), reason).await?;
        show(&overview, *output)?;
        let unproven = overview.has_residue() || !overview.unreachable.is_empty();
        Ok(if unproven { Exit::Residue } else { Exit::Held })
    })
}

pub(super) fn resume(request: &ResumeRequest) -> anyhow::Result<Exit> {
    let ResumeRequest { inventory, output } = request;
    inside_inventory(inventory, *output, async |inventory| {
        let failed = ops::resume(&Place::Inventory(inventory)).await?;
        match output {
            Output::Json => print::json(&serde_json::json!({ "notResumed": failed }))?,
            Output::Text if failed.is_empty() => print::out("resumed on every node\n")?,
            Output::Text => {
                for failure in &failed {
                    print::error(&format!("not resumed: {failure}"));
                }
            }
        }
        Ok(if failed.is_empty() { Exit::Held } else { Exit::Refused })
    })
}

fn show(overview: &Overview, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => print::out(&overview.text())?,
        Output::Json => print::json(overview)?,
    }
    Ok(())
}
