//! The whole system from outside: real hosts, real players, a real third-party CDN, a real Redis, and bad neighbours.

mod abuse;
mod away;
mod browsers;
mod churn;
mod clients;
mod collab;
mod crowd;
mod desk;
mod destination;
mod edge;
mod layers;
mod lifecycle;
mod links;
mod nat;
mod network;
mod passage;
mod registry;
mod relays;
mod restart;
mod rtmp;
mod slate;
mod support;
mod turn;
mod uplink;
mod whep;
