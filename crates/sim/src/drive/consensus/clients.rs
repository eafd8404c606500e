//! The front's thread of work: what clients ask is submitted, what came of it is told.

use bytes::Bytes;
use mainstay_consensus::{Input, Request};
use mainstay_model::Token;
use mainstay_model::frame::Frame;
use mainstay_service::Command;

use super::{Origin, RETRY, ReplicaProcess};
use crate::context::Cx;
use crate::drive::front::{Asker, Todo};
use crate::wire::{ClientMessage, Told};
use crate::world::NodeId;

impl ReplicaProcess {
    pub(super) fn submit(&mut self, cx: &mut Cx<'_>, origin: Origin, request: Bytes) {
        let token = self.token();
        self.origins.insert(token, origin);
        // A submission that is not rejected is not heard of again: its outcome shows at apply.
        while self.origins.len() > 4096 {
            self.origins.pop_first();
        }
        let request = Request { id: Command::request_id(&request), client: 0, bytes: request };
        self.step(cx, Input::Submit { token, request });
    }

    pub(super) fn carry_out_todo(&mut self, cx: &mut Cx<'_>, todo: Vec<Todo>) {
        for todo in todo {
            match todo {
                Todo::Submit(request) => self.submit(cx, Origin::Front, request),
                Todo::Read(read) => {
                    let token = self.token();
                    self.reads.insert(token, read);
                    self.step(cx, Input::Read { token });
                }
                Todo::Tie(client, number) => {
                    for read in self.reads.values_mut() {
                        if read.asker.client == client && read.before.is_none() {
                            read.before = Some(number);
                        }
                    }
                }
                Todo::Acknowledge(observation) => cx.observe(&observation),
                Todo::Tell(asker, outcome) => tell(cx, asker, outcome),
                Todo::Pass(client, applied) => {
                    cx.send(client, ClientMessage::Applied(applied).encode());
                }
                Todo::Retry => self.retry_soon(cx),
            }
        }
    }

    pub(super) fn retry_soon(&mut self, cx: &mut Cx<'_>) {
        if !self.retry_armed {
            self.retry_armed = true;
            let nanos = cx.prng().between(2_000_000, 20_000_000);
            cx.timer_in(nanos, RETRY);
        }
    }

    pub(super) fn on_retry(&mut self, cx: &mut Cx<'_>) {
        self.retry_armed = false;
        let mut todo = Vec::new();
        self.front.send_again(&mut todo);
        self.carry_out_todo(cx, todo);
    }

    pub(super) fn on_rejected(&mut self, cx: &mut Cx<'_>, token: Token) {
        if let Some(read) = self.reads.remove(&token) {
            return tell(cx, read.asker, Told::NotDone);
        }
        match self.origins.remove(&token) {
            Some(Origin::Front) => self.retry_soon(cx),
            Some(Origin::Client(asker)) => tell(cx, asker, Told::NotDone),
            Some(Origin::Own) | None => {}
        }
    }

    pub(super) fn on_client(&mut self, cx: &mut Cx<'_>, client: NodeId, frame: &Frame) {
        let mut todo = Vec::new();
        match ClientMessage::decode(frame) {
            Ok(ClientMessage::Ask { id, read, body }) => {
                self.front.on_ask(Asker { client, id }, read, body, &mut todo);
                self.carry_out_todo(cx, todo);
            }
            Ok(ClientMessage::Command { id, command }) => {
                if self.front.on_command(client, command.clone()) {
                    self.submit(cx, Origin::Client(Asker { client, id }), command);
                }
            }
            Ok(_) | Err(_) => cx.line(format_args!("no client's message")),
        }
    }
}

pub(super) fn tell(cx: &mut Cx<'_>, asker: Asker, outcome: Told) {
    cx.send(asker.client, ClientMessage::Told { id: asker.id, outcome }.encode());
}
