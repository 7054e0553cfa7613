//! `faultline sandbox`: a sandbox that stays until somebody ends it.

use anyhow::Context;

use super::{
    Exit, Output, PlaceChoice, SandboxRequest,
    enter::{Entry, build, inside, take_down},
    print,
};
use crate::{report::Console, run::Interrupt};

pub(super) fn main(request: &SandboxRequest) -> anyhow::Result<Exit> {
    let SandboxRequest { sandbox: spec, output } = request;
    inside(PlaceChoice::Sandbox { nodes: None }, *output, async |entry| {
        let Entry::Sandbox { entered, .. } = entry else { unreachable!("asked for a sandbox") };
        let interrupt = Interrupt::listen().context("cannot listen for Ctrl-C")?;
        let console = Console::new(*output);
        let sandbox = build(&entered, spec, &console).await?;
        let inventory = sandbox.directory().join("inventory.json");
        match output {
            Output::Text => {
                console.say("inventory", &inventory.display().to_string());
                console.say("", "kept until Ctrl-C");
            }
            Output::Json => print::json(&serde_json::json!({ "inventory": inventory }))?,
        }
        interrupt.wait().await;
        let left = take_down(sandbox, &console).await;
        for residue in &left {
            print::error(&format!("left: {residue}"));
        }
        Ok(if left.is_empty() { Exit::Held } else { Exit::Residue })
    })
}
