"""Tokens from the stand-in for Entra. Over plain HTTP they are refused, which is a case, too."""

import os
from datetime import datetime, timedelta, timezone

from azure.storage.fileshare import ShareServiceClient, generate_share_sas, ShareClient
from support import SETTINGS, case, expect, file, options, raw, share


def bearer(credential, **more):
    return ShareServiceClient(
        SETTINGS["endpoint"], credential=credential, token_intent="backup", **options(**more)
    )


def use(credential):
    """Everything that a token is good for."""
    client = share()
    reached = bearer(credential).get_share_client(client.share_name)
    assert reached.get_share_properties().name == client.share_name
    made = reached.get_file_client("f")
    made.upload_file(b"by token")
    moved = made.rename_file("g")
    assert moved.download_file().readall() == b"by token"
    assert [entry["name"] for entry in reached.list_directories_and_files()] == ["g"]


def secret_credential(secret=None):
    from azure.identity import ClientSecretCredential

    return ClientSecretCredential(
        SETTINGS["tenant"],
        SETTINGS["client_id"],
        secret or SETTINGS["client_secret"],
        authority=SETTINGS["authority_host"],
        disable_instance_discovery=True,
        connection_verify=SETTINGS["ca"],
    )


def secret_is_exchanged_for_a_token():
    from azure.core.exceptions import ClientAuthenticationError

    use(secret_credential())
    try:
        secret_credential("wrong").get_token("https://storage.azure.com/.default")
    except ClientAuthenticationError:
        return
    raise AssertionError("a wrong secret was taken")


def workload_identity_is_exchanged_for_a_token():
    from azure.identity import WorkloadIdentityCredential

    use(
        WorkloadIdentityCredential(
            tenant_id=SETTINGS["tenant"],
            client_id=SETTINGS["client_id"],
            token_file_path=SETTINGS["federated_token_file"],
            authority=SETTINGS["authority_host"],
            disable_instance_discovery=True,
            connection_verify=SETTINGS["ca"],
        )
    )


def managed_identity_gives_a_token():
    from azure.identity import ManagedIdentityCredential

    os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = SETTINGS["imds_host"]
    use(ManagedIdentityCredential())


def az_gives_a_token():
    from azure.identity import AzureCliCredential

    path = os.environ["PATH"]
    os.environ["PATH"] = SETTINGS["az_dir"] + os.pathsep + path
    try:
        use(AzureCliCredential())
    finally:
        os.environ["PATH"] = path


def user_delegation_sas():
    service = bearer(secret_credential())
    client = share()
    file(b"delegated", of=client)
    now = datetime.now(timezone.utc)
    later = now + timedelta(hours=1)
    key = service.get_user_delegation_key(start=now - timedelta(minutes=1), expiry=later)
    sas = generate_share_sas(
        SETTINGS["account"],
        client.share_name,
        permission="rl",
        expiry=later,
        user_delegation_key=key,
    )
    reader = ShareClient(SETTINGS["endpoint"], client.share_name, credential=sas, **options())
    assert reader.get_file_client("file.bin").download_file().readall() == b"delegated"
    code = "AuthorizationPermissionMismatch"
    expect(403, code, reader.get_file_client("file.bin").delete_file)


def bearer_needs_intent_and_a_new_version():
    client = share()
    token = secret_credential().get_token("https://storage.azure.com/.default").token
    headers = {"Authorization": "Bearer " + token}
    answer = raw("GET", client.share_name, headers, query="restype=directory", sas="")
    assert answer.headers["x-ms-error-code"] == "MissingRequiredHeader", answer.text
    headers["x-ms-file-request-intent"] = "backup"
    answer = raw("GET", client.share_name, headers, query="restype=directory", sas="")
    assert answer.status_code == 200, answer.text
    headers["x-ms-version"] = "2023-11-03"
    answer = raw("GET", client.share_name, headers, query="restype=directory", sas="")
    assert answer.status_code == 200, answer.text
    answer = raw("GET", client.share_name, headers, query="restype=share", sas="")
    assert answer.headers["x-ms-error-code"] == "FileOAuthManagementApiRestrictedToSrp"
    headers["Authorization"] = "Bearer made.up.token"
    answer = raw("GET", client.share_name, headers, query="restype=directory", sas="")
    assert answer.status_code == 401 and "WWW-Authenticate" in answer.headers


def bearer_over_plain_http_is_refused():
    client = share()
    headers = {
        "Authorization": "Bearer " + SETTINGS["token"],
        "x-ms-file-request-intent": "backup",
    }
    query = "restype=directory"
    plain = SETTINGS["plain_endpoint"]
    answer = raw("GET", client.share_name, headers, query=query, sas="", base=plain)
    assert answer.status_code == 403, answer.text
    assert answer.headers["x-ms-error-code"] == "AuthenticationFailed"


case(bearer_over_plain_http_is_refused)
# The rest is over TLS alone: clients, too, send tokens nowhere else.
if SETTINGS.get("ca"):
    case(secret_is_exchanged_for_a_token)
    case(workload_identity_is_exchanged_for_a_token)
    case(managed_identity_gives_a_token)
    case(az_gives_a_token)
    case(user_delegation_sas)
    case(bearer_needs_intent_and_a_new_version)
