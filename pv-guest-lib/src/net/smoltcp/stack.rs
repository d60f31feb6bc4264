//! The stack with what it needs: a device, an address, sockets.

use super::{Device, now};
use crate::net::{Interface, NetConfig};
use crate::tree;
use crate::xenbus::BusError;
use alloc::vec;
use smoltcp::iface::{Config, Interface as Stacked, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address};

/// A TCP/IP stack on the domain's first network interface.
pub struct Stack {
    device: Device,
    interface: Stacked,
    sockets: SocketSet<'static>,
}

impl Stack {
    /// Connects to the first interface and takes its addresses from the guest's command line: `ip=192.168.77.20/24`, and
    /// `gateway=192.168.77.1` if there is one.
    pub fn from_command_line() -> Result<Self, BusError> {
        let words = tree::get().command_line.split_whitespace();
        let value = |name: &str| words.clone().find_map(|word| word.strip_prefix(name));
        let address = value("ip=").and_then(|text| text.parse().ok());
        let address: IpCidr =
            address.ok_or(BusError::Unsupported("no ip=ADDRESS/PREFIX on the command line"))?;
        let gateway = value("gateway=").and_then(|text| text.parse::<Ipv4Address>().ok());
        let mut device = Device::new(Interface::open(0, NetConfig::default())?);
        let mac = EthernetAddress(device.interface().mac().0);
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut interface = Stacked::new(config, &mut device, now());
        interface.update_ip_addrs(|addresses| {
            // The list is empty, and has room for one.
            let _ = addresses.push(address);
        });
        if let Some(gateway) = gateway {
            let added = interface.routes_mut().add_default_ipv4_route(gateway);
            added.map_err(|_| BusError::Unsupported("there is no room for a route"))?;
        }
        Ok(Self { device, interface, sockets: SocketSet::new(vec![]) })
    }

    /// Adds a TCP socket with so many bytes of buffer for each direction.
    pub fn add_tcp(&mut self, buffer: usize) -> SocketHandle {
        let buffers = [0; 2].map(|_| tcp::SocketBuffer::new(vec![0; buffer]));
        let [receive, transmit] = buffers;
        self.sockets.add(tcp::Socket::new(receive, transmit))
    }

    /// Returns a socket.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Returns the device.
    pub fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// Takes what came and sends what is to be sent. An error means that the interface was closed; later calls connect it again
    /// when the back end allows.
    pub fn poll(&mut self) -> Result<(), BusError> {
        self.device.interface().follow()?;
        let _changed = self.interface.poll(now(), &mut self.device, &mut self.sockets);
        // A closed device takes and gives nothing until it is connected again.
        match self.device.take_error() {
            None | Some(BusError::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Waits, with the vCPU asleep, until there is something to poll for.
    pub fn wait(&mut self) {
        let delay = self.interface.poll_delay(now(), &self.sockets);
        self.device.wait(delay);
    }
}
