from pathlib import Path

from dev.home import free_ports


def test_ports_of_servers_are_none_that_outgoing_connections_are_given():
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    ports = free_ports(50, taken=set(range(20_000, 26_000)))
    assert len(set(ports)) == 50
    assert 26_000 <= min(ports) <= max(ports) < int(lowest)
