//! What is asked: from the request's parts to an [`Operation`].

use super::{
    authenticate::Authenticated,
    record::RequestRecord,
    step::{Step, StepLayer},
};
use crate::{
    acl::Requester,
    body::UnverifiedBody,
    dialect::Dialect,
    s3::{
        Operation, S3Error, headers,
        parse::{self, ParseInput},
        query::Query,
    },
};

/// A request that is understood.
#[derive(Debug)]
pub struct Parsed {
    pub operation: Operation,
    pub requester: Requester,
    pub body: UnverifiedBody,
    pub record: RequestRecord,
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Parse {
    pub dialect: Dialect,
}

pub fn layer(parse: Parse) -> StepLayer<Parse> {
    StepLayer::new(parse)
}

impl Step<Authenticated> for Parse {
    type Next = Parsed;

    fn step(&self, request: Authenticated) -> Result<Parsed, S3Error> {
        let query = Query::parse(&request.raw_query)?;
        // What a presigner moved into the query is a header from here on.
        let headers = headers::effective_headers(&query, &request.headers)?.into_owned();
        let operation = parse::parse(&ParseInput {
            method: &request.method,
            target: &request.target,
            url: &request.url,
            query: &query,
            headers: &headers,
            dialect: self.dialect,
            has_body: request.body.is_announced(),
        })?;
        request.record.set_operation(operation.name());
        if operation.takes_long() {
            request.record.set_takes_long(());
        }
        Ok(Parsed {
            operation,
            requester: request.requester,
            body: UnverifiedBody {
                body: request.body,
                headers,
                payload: request.payload,
                signer: request.signer,
            },
            record: request.record,
        })
    }
}
