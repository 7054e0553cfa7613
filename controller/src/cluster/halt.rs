//! A halt, kept in the cluster: agents keep theirs on their nodes, and a run that injects through the API server alone
//! asks none of them. A `ConfigMap` in the namespace of the installation is there from `faultline halt` to
//! `faultline resume`.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};

use super::{Asked, Cluster, ClusterError, Connection, install::labels_of};

/// Its name.
const HALT: &str = "faultline-halt";
/// What it says.
const REASON: &str = "reason";

/// The halt of an installation.
#[derive(Debug, Clone)]
pub(super) struct Halt {
    connection: Connection,
    namespace: String,
}

impl Halt {
    pub(super) fn new(connection: Connection, namespace: &str) -> Self {
        Self { connection, namespace: namespace.into() }
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.connection.client(), &self.namespace)
    }

    fn asked(&self, verb: &'static str) -> Asked {
        Asked::new(verb, "configmaps").within(&self.namespace).named(HALT)
    }

    /// Why everything is halted; `None` if it is not.
    ///
    /// # Errors
    /// When it is not told: then it is not known whether anything may be injected.
    pub(super) async fn reason(&self) -> Result<Option<String>, ClusterError> {
        let api = self.api();
        let halt = self.connection.answer(self.asked("get"), api.get_opt(HALT)).await?;
        Ok(halt.map(|halt| {
            let reason = halt.data.unwrap_or_default().remove(REASON);
            reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "no reason given".into())
        }))
    }

    /// Keeps that everything is halted. Who halted it first has said why. Returns whether it could be kept: there is
    /// no place for it where there is no namespace.
    async fn keep(&self, reason: &str) -> Result<bool, ClusterError> {
        let (api, with) = (self.api(), PostParams::default());
        let halt = ConfigMap {
            metadata: ObjectMeta {
                name: Some(HALT.into()),
                labels: Some(labels_of(&self.namespace)),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(REASON.to_owned(), reason.to_owned())])),
            ..ConfigMap::default()
        };
        match self.connection.answer(self.asked("create"), api.create(&with, &halt)).await {
            Err(error) if error.is_conflict() => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Ends it. Returns whether there was one.
    async fn end(&self) -> Result<bool, ClusterError> {
        let (api, at_once) = (self.api(), DeleteParams::default());
        match self.connection.answer(self.asked("delete"), api.delete(HALT, &at_once)).await {
            Err(error) if error.is_not_found() => Ok(false),
            answer => answer.map(|_| true),
        }
    }
}

impl Cluster {
    /// Where a halt is kept; `None` where nothing is installed, and there is no place for it.
    fn kept_halt(&self) -> Result<Option<Halt>, ClusterError> {
        let home = self.home()?;
        let halt = || Halt::new(self.connection.clone(), &home.namespace);
        Ok(home.is_meant.then(halt))
    }

    /// Why everything that goes through the API server is halted; `None` if it is not.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn halted(&self) -> Result<Option<String>, ClusterError> {
        match self.kept_halt()? {
            Some(halt) => halt.reason().await,
            None => Ok(None),
        }
    }

    /// Has every run refuse to inject through the API server until it is resumed. Returns whether it could be kept.
    ///
    /// # Errors
    /// When this user may not, or the API server does not answer.
    pub async fn halt(&self, reason: &str) -> Result<bool, ClusterError> {
        match self.kept_halt()? {
            Some(halt) => halt.keep(reason).await,
            None => Ok(false),
        }
    }

    /// Lets runs inject through the API server again. Returns whether they could not.
    ///
    /// # Errors
    /// When this user may not, or the API server does not answer.
    pub async fn resume(&self) -> Result<bool, ClusterError> {
        match self.kept_halt()? {
            Some(halt) => halt.end().await,
            None => Ok(false),
        }
    }
}
