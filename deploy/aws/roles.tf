# What each host may do in the account: be reached by Session Manager; workhorse also uses the archive.

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "host" {
  for_each = local.roles

  name               = "${var.name}-${each.key}"
  description        = "Host ${each.key} of ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_instance_profile" "host" {
  for_each = aws_iam_role.host

  name = each.value.name
  role = each.value.name
}

# Less than AmazonSSMManagedInstanceCore, which also lets a host read every parameter of the account.
data "aws_iam_policy_document" "session" {
  #checkov:skip=CKV_AWS_111: these actions know no resource
  #checkov:skip=CKV_AWS_356: these actions know no resource
  statement {
    sid = "SessionManager"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "session" {
  for_each = aws_iam_role.host

  name   = "session-manager"
  role   = each.value.id
  policy = data.aws_iam_policy_document.session.json
}

# The requests of src/marquee/store/remote.py. Attributes, tags, retention, versions and settings of the bucket
# are in none of them: whoever takes over workhorse cannot remove what undelete_days keeps.
data "aws_iam_policy_document" "archive" {
  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = ["${aws_s3_bucket.archive.arn}/${var.archive_prefix}/*"]
  }

  # Without a condition on s3:prefix: by this permission S3 also decides whether a missing object is answered
  # by 404 or by 403, and Marquee must know. The bucket holds nothing but the archive.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.archive.arn]
  }

  # S3 asks KMS in the name of the role, also for the parts of large objects.
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.data.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "archive" {
  name   = "archive"
  role   = aws_iam_role.host["workhorse"].id
  policy = data.aws_iam_policy_document.archive.json
}
