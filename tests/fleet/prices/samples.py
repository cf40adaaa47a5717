"""What the clouds' price APIs answer: their formats, numbers of our own."""

from __future__ import annotations

import json
from typing import Any

AT = 1_800_000_000.0
"""2027-01-15."""

_EC2 = (
    "SKU,OfferTermCode,RateCode,TermType,PriceDescription,EffectiveDate,StartingRange,EndingRange,Unit,PricePerUnit,"
    "Currency,Product Family,serviceCode,Location,Location Type,Instance Type,Current Generation,Instance Family,vCPU,"
    "Physical Processor,Memory,Tenancy,Operating System,License Model,CapacityStatus,Pre Installed S/W,GPU,Region Code"
)


def _quoted(line: str) -> str:
    return ",".join(f'"{cell}"' for cell in line.split(","))


def _instance(**changed: str) -> str:
    row = {
        "SKU": "A", "TermType": "OnDemand", "StartingRange": "0", "EndingRange": "Inf", "Unit": "Hrs",
        "PricePerUnit": "0.0960000000", "Currency": "USD", "Product Family": "Compute Instance",
        "serviceCode": "AmazonEC2", "Location Type": "AWS Region", "Instance Type": "m5.large", "vCPU": "2",
        "Memory": "8 GiB", "Tenancy": "Shared", "Operating System": "Linux", "License Model": "No License required",
        "CapacityStatus": "Used", "Pre Installed S/W": "NA", "Region Code": "us-east-1",
    } | {name.replace("_", " "): value for name, value in changed.items()}  # fmt: skip
    return ",".join(f'"{row.get(name, "")}"' for name in _EC2.split(","))


_META = ['"FormatVersion","v1.0"', '"Disclaimer","informational"', '"Publication Date","2027-01-14T00:00:00Z"',
         '"Version","20270114000000"', '"OfferCode","AmazonEC2"']  # fmt: skip

EC2_CSV = "\r\n".join(
    [
        *_META,
        _quoted(_EC2),
        _instance(),
        _instance(Instance_Type="m7g.24xlarge", PricePerUnit="3.9168", vCPU="96", Memory="1536 GiB"),
        _instance(Instance_Type="p4d.24xlarge", PricePerUnit="32.7726", vCPU="96", Memory="1152 GiB", GPU="8"),
        _instance(Operating_System="Windows", PricePerUnit="0.188"),
        _instance(Tenancy="Dedicated", PricePerUnit="0.2"),
        _instance(CapacityStatus="UnusedCapacityReservation", PricePerUnit="0.09"),
        _instance(TermType="Reserved", PricePerUnit="0.05"),
        _instance(**{"Pre_Installed_S/W": "SQL Std", "PricePerUnit": "0.5"}),
    ]
)  # fmt: skip

_TRANSFER = (
    "SKU,OfferTermCode,RateCode,TermType,PriceDescription,EffectiveDate,StartingRange,EndingRange,Unit,PricePerUnit,"
    "Currency,Product Family,serviceCode,Transfer Type,From Location,From Location Type,To Location,To Location Type,"
    "From Region Code,To Region Code"
)


def _transfer(start: str, end: str, usd: str, kind: str, to: str, region: str = "") -> str:
    return _quoted(
        f"B,,,OnDemand,,2027-01-01,{start},{end},GB,{usd},USD,Data Transfer,AWSDataTransfer,{kind},"
        f"US East (N. Virginia),AWS Region,{to},,us-east-1,{region}"
    )


TRANSFER_CSV = "\n".join(
    [
        *_META,
        _quoted(_TRANSFER),
        _transfer("10240", "51200", "0.0850000000", "AWS Outbound", "External"),
        _transfer("0", "10240", "0.0900000000", "AWS Outbound", "External"),
        _transfer("0", "Inf", "0.0200000000", "InterRegion Outbound", "EU (Ireland)", "eu-west-1"),
        _transfer("0", "Inf", "0.0000000000", "AWS Inbound", "US East (N. Virginia)"),
    ]
)

EC2_JSON = json.dumps(
    {
        "formatVersion": "v1.0",
        "offerCode": "AmazonEC2",
        "publicationDate": "2027-01-14T00:00:00Z",
        "products": {
            "A": {
                "sku": "A",
                "productFamily": "Compute Instance",
                "attributes": {
                    "instanceType": "m5.large", "vcpu": "2", "memory": "8 GiB", "tenancy": "Shared",
                    "operatingSystem": "Linux", "licenseModel": "No License required", "capacitystatus": "Used",
                    "preInstalledSw": "NA", "regionCode": "us-east-1", "locationType": "AWS Region",
                },
            }
        },
        "terms": {
            "OnDemand": {
                "A": {
                    "A.JRTCKXETXF": {
                        "offerTermCode": "JRTCKXETXF",
                        "priceDimensions": {
                            "A.JRTCKXETXF.6YS6EN2CT7": {
                                "unit": "Hrs", "beginRange": "0", "endRange": "Inf",
                                "pricePerUnit": {"USD": "0.0960000000"},
                            }
                        },
                    }
                }
            },
            "Reserved": {
                "A": {"A.X": {"priceDimensions": {"A.X.Y": {"unit": "Hrs", "pricePerUnit": {"USD": "0.05"}}}}}
            },
        },
    }
).encode()  # fmt: skip


def azure_item(**changed: Any) -> dict[str, Any]:
    return {
        "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": 0.23, "unitPrice": 0.23,
        "armRegionName": "westeurope", "location": "EU West", "effectiveStartDate": "2026-01-01T00:00:00Z",
        "meterName": "D4s v5", "productName": "Virtual Machines Dsv5 Series", "skuName": "D4s v5",
        "serviceName": "Virtual Machines", "serviceFamily": "Compute", "unitOfMeasure": "1 Hour",
        "type": "Consumption", "isPrimaryMeterRegion": True, "armSkuName": "Standard_D4s_v5",
    } | changed  # fmt: skip


def azure_page(*items: dict[str, Any], following: str | None = None) -> bytes:
    return json.dumps(
        {"BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail", "Items": items,
         "NextPageLink": following, "Count": len(items)}
    ).encode()  # fmt: skip


AZURE_MACHINES = (
    azure_item(),
    azure_item(skuName="D4s v5 Spot", meterName="D4s v5 Spot", retailPrice=0.046),
    azure_item(skuName="D4s v5 Low Priority", retailPrice=0.05),
    azure_item(productName="Virtual Machines Dsv5 Series Windows", retailPrice=0.414),
    azure_item(effectiveStartDate="2030-01-01T00:00:00Z", retailPrice=9.0),
    azure_item(type="Reservation", retailPrice=1000.0, unitOfMeasure="1 Hour"),
)

AZURE_BANDWIDTH = tuple(
    azure_item(
        serviceName="Bandwidth", meterName="Standard Data Transfer Out", productName="Rtn Preference: MGN",
        skuName="Standard", armSkuName="", unitOfMeasure="1 GB", tierMinimumUnits=begin, retailPrice=usd,
    )
    for begin, usd in ((100.0, 0.087), (0.0, 0.0), (10335.0, 0.083))
)  # fmt: skip


def gcp_sku(
    description: str, nanos: int, *, usage: str = "OnDemand", family: str = "Compute", **more: Any
) -> dict[str, Any]:
    rates = more.pop(
        "rates", [{"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": nanos}}]
    )
    return {
        "name": "services/6F81-5844-456A/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine", "resourceFamily": family, "resourceGroup": "CPU",
            "usageType": usage,
        },
        "serviceRegions": ["europe-west4"],
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {"usageUnit": "h", "displayQuantity": 1, "tieredRates": rates, "baseUnit": "s"},
                "currencyConversionRate": 1,
                "effectiveTime": "2027-01-14T00:00:00Z",
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "REGIONAL", "regions": ["europe-west4"]},
    }  # fmt: skip


GCP_FIRST = {
    "skus": [
        gcp_sku("N2 Instance Core running in Netherlands", 34_800_000),
        gcp_sku("N2 Instance Ram running in Netherlands", 4_664_000),
        gcp_sku("N2 Custom Instance Core running in Netherlands", 99_000_000),
        gcp_sku("Commitment v1: N2 Cpu in Netherlands for 1 Year", 20_000_000, usage="Commit1Yr"),
    ],
    "nextPageToken": "second",
}
GCP_SECOND = {
    "skus": [
        gcp_sku("Spot Preemptible N2 Instance Core running in Netherlands", 8_000_000, usage="Preemptible"),
        gcp_sku("Spot Preemptible N2 Instance Ram running in Netherlands", 1_000_000, usage="Preemptible"),
        gcp_sku("Compute optimized Core running in Netherlands", 37_000_000),
        gcp_sku("Compute optimized Ram running in Netherlands", 5_000_000),
        gcp_sku("N1 Predefined Instance Core running in Netherlands", 34_000_000),
        gcp_sku("T2A Arm Instance Core running in Netherlands", 1),
        gcp_sku(
            "Network Internet Egress from EMEA to EMEA", 0, family="Network",
            rates=[
                {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": 120_000_000}},
                {"startUsageAmount": 1024, "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": 110_000_000}},
            ],
        ),
    ],
    "nextPageToken": "",
}  # fmt: skip
