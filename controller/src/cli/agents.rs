//! `faultline ps`, `doctor`, `halt` and `resume`: what is asked of all agents of a place at once. None of
//! them succeeds where an agent could not be asked.

use super::{
    Exit, HaltRequest, Output, PlaceChoice, PsRequest, ResumeRequest, enter::inside, print,
};
use crate::{
    ops::{self, Diagnosis, Overview, Resumed},
    place::Place,
};

pub(super) fn ps(request: PsRequest) -> anyhow::Result<Exit> {
    let PsRequest { place, output } = request;
    at(place, output, async |place| {
        let overview = ops::ps(&place).await?;
        show(&overview, output)?;
        let asked = if overview.is_complete() { Exit::Held } else { Exit::Refused };
        Ok(if overview.has_residue() { Exit::Residue } else { asked })
    })
}

pub(super) fn doctor(place: PlaceChoice, output: Output) -> anyhow::Result<Exit> {
    at(place, output, async |place| diagnose(&place, output).await)
}

/// Looks at a place, and says what was found.
pub(super) async fn diagnose(place: &Place, output: Output) -> anyhow::Result<Exit> {
    let diagnosis = ops::doctor(place).await?;
    match output {
        Output::Text => print::out(&diagnosis.text())?,
        Output::Json => print::json(&diagnosis)?,
    }
    Ok(exit_of(&diagnosis))
}

/// What the exit code says of a place.
pub(super) fn exit_of(diagnosis: &Diagnosis) -> Exit {
    match (diagnosis.has_residue(), diagnosis.is_well()) {
        (true, _) => Exit::Residue,
        (false, false) => Exit::Refused,
        (false, true) => Exit::Held,
    }
}

pub(super) fn halt(request: HaltRequest) -> anyhow::Result<Exit> {
    let HaltRequest { place, reason, output } = request;
    at(place, output, async |place| {
        let overview = ops::halt(&place, &reason).await?;
        show(&overview, output)?;
        let unproven = overview.has_residue() || !overview.is_complete();
        Ok(if unproven { Exit::Residue } else { Exit::Held })
    })
}

pub(super) fn resume(request: ResumeRequest) -> anyhow::Result<Exit> {
    let ResumeRequest { place, acknowledged, output } = request;
    at(place, output, async |place| {
        let resumed = ops::resume(&place, &acknowledged).await?;
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

/// Does something at a place that is there already.
fn at<F: Future<Output = anyhow::Result<Exit>>>(
    choice: PlaceChoice,
    output: Output,
    work: impl FnOnce(Place) -> F,
) -> anyhow::Result<Exit> {
    inside(choice, output, async |entry| match Option::<Place>::from(entry) {
        Some(place) => work(place).await,
        None => anyhow::bail!("a sandbox that is yet to be built has no agents"),
    })
}

fn show(overview: &Overview, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => print::out(&overview.text())?,
        Output::Json => print::json(overview)?,
    }
    Ok(())
}
