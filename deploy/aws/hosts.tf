# The three hosts. What they keep lies on a disk of its own, so that a host can be made anew and find it again.

data "aws_ssm_parameter" "ubuntu" {
  name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
}

resource "aws_ebs_volume" "data" {
  for_each = var.hosts

  availability_zone = var.availability_zone
  type              = "gp3"
  size              = each.value.data_gib
  encrypted         = true
  kms_key_id        = aws_kms_key.data.arn
  final_snapshot    = true
  tags              = { Name = "${var.name}-${each.key}-data" }
}

resource "aws_instance" "host" {
  for_each = var.hosts

  ami                     = data.aws_ssm_parameter.ubuntu.insecure_value
  instance_type           = each.value.instance_type
  subnet_id               = aws_subnet.host[each.key].id
  private_ip              = local.addresses[each.key]
  vpc_security_group_ids  = [aws_security_group.host[each.key].id]
  iam_instance_profile    = aws_iam_instance_profile.host[each.key].name
  ebs_optimized           = true
  monitoring              = var.detailed_monitoring
  disable_api_termination = var.termination_protection

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # Containers of workhorse get the keys of the archive from here, one hop further than the host.
    http_put_response_hop_limit = each.key == "workhorse" ? 2 : 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = each.value.system_gib
    encrypted   = true
    kms_key_id  = aws_kms_key.data.arn
  }

  user_data = templatefile("${path.module}/user-data.sh.tftpl", {
    role       = each.key
    volume     = replace(aws_ebs_volume.data[each.key].id, "-", "")
    repository = var.repository
    release    = var.release
    start      = local.start[each.key]
  })

  tags = { Name = "${var.name}-${each.key}" }

  # Hosts keep themselves up to date and get releases by deployment: neither a newer image of Ubuntu nor another
  # first release is a reason to make them anew.
  lifecycle {
    ignore_changes = [ami, user_data]
  }

  depends_on = [aws_route.private, aws_route.public, aws_iam_role_policy.session]
}

resource "aws_volume_attachment" "data" {
  for_each = var.hosts

  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.data[each.key].id
  instance_id                    = aws_instance.host[each.key].id
  stop_instance_before_detaching = true
}

# The address that the site's name points to stays when the host is made anew.
resource "aws_eip" "site" {
  domain   = "vpc"
  instance = aws_instance.host["controltower"].id
  tags     = { Name = "${var.name}-site" }

  depends_on = [aws_internet_gateway.this]
}
