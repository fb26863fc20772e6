# One security group for each role. Roles refer to each other by group, never by address.

resource "aws_security_group" "host" {
  for_each = local.roles

  name        = "${var.name}-${each.key}"
  description = "Ports of ${each.key} as in deploy/hosts.json"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "peer" {
  for_each = local.from_peers

  security_group_id            = aws_security_group.host[each.value.role].id
  referenced_security_group_id = aws_security_group.host[each.value.source].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = "${each.value.what} to ${each.value.source}"
}

resource "aws_vpc_security_group_egress_rule" "peer" {
  for_each = local.from_peers

  security_group_id            = aws_security_group.host[each.value.source].id
  referenced_security_group_id = aws_security_group.host[each.value.role].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = "${each.value.what} of ${each.value.role}"
}

resource "aws_vpc_security_group_ingress_rule" "network" {
  for_each = local.from_networks

  security_group_id = aws_security_group.host[each.value.role].id
  cidr_ipv4         = each.value.network
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  description       = "${each.value.what} to ${each.value.source}"
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  for_each = local.to_internet

  security_group_id = aws_security_group.host[each.value.role].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  description       = "Packages, images and services of the internet"
}
